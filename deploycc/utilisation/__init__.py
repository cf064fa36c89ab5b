"""Measure the utilisation of a detector's kernels on calibration pictures."""
