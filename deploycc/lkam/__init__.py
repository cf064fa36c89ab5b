"""Train SSD detectors with learned kernel gates (optional: needs PyTorch, extra ``train``).

The compiler does not import this room; it reads the files that `export` writes.
"""
