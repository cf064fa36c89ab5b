"""Deciding how kernel gates are carried out, by measured times; `deploycc.passes.lower_gates` does it."""
