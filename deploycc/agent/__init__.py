"""What runs where the engine is built and measured. Standard library only, Python 3.5 and later."""

__version__ = "1.1"
