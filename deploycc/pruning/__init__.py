"""Select the kernels to prune, and refit the weights after pruning; `deploycc.passes.prune_channels` removes them."""
