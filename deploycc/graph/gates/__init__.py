"""Kernel gates: finding them in a network, and fixing them."""
