"""Reading trained detectors. One module a format; `load` picks it by suffix."""
