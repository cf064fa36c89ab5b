"""Choosing how each kernel gate is carried out, by measured times; `deploycc.passes.lower_gates` does it."""
