"""Import Caffe detectors: ``.prototxt`` with ``.caffemodel``."""

from __future__ import annotations

from deploycc.importers.caffe.assemble import load

SUFFIXES = (".prototxt", ".caffemodel")

__all__ = ["SUFFIXES", "load"]
