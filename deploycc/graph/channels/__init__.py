"""Channel groups of a network: finding them, removing them, reordering kernels."""
