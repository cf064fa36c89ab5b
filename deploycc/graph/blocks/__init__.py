"""Blocks of a network that can go whole: branches of sums and of concatenations, and layers that keep their shape."""
