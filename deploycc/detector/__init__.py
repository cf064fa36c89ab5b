"""The detector, which every step of the compiler takes and returns, and its file format."""

from __future__ import annotations

from deploycc.detector.detector import (
    BoxCoding,
    Colour,
    DetectionOutputs,
    Detector,
    InputSpec,
    Nms,
    Source,
    SsdHeads,
)

__all__ = ["BoxCoding", "Colour", "DetectionOutputs", "Detector", "InputSpec", "Nms", "Source", "SsdHeads"]
