"""Decoding, suppression and accuracy on real pictures."""
