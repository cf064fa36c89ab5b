"""Choosing by measured times what each kernel gate becomes; `deploycc.passes.lower_gates` carries it out."""
