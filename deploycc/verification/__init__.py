"""Comparing what a compiled network computes with what its trained file computes, on seeded pictures."""
