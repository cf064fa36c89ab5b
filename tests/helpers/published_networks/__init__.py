"""Published networks, as layer descriptions without trained weights.

They are what public measurements of boards were made with; `tests/benchmarks/bench_prediction.py` predicts them. Batch
normalisation is folded into the convolutions, as every builder does it; a batch normalisation that comes before its
convolution stays.
"""
