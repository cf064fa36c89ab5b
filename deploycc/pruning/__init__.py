"""Deciding which kernels a network can do without; `deploycc.passes.prune_channels` removes them."""
