"""Decode network outputs to detections and score them on annotated pictures."""
