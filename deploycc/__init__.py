"""deploycc: the deployment compiler for SSD detectors on NVIDIA Jetson and DRIVE boards."""

__version__ = "0.1.0"
