"""How much each kernel of a detector is used on calibration pictures."""
