"""Training SSD detectors with learned kernel gates (optional: needs PyTorch, extra ``train``).

Nothing else of the package imports this one; the compiler reads what `export` writes.
"""
