"""Running calibration pictures through a detector."""
