"""A network as a PyTorch module: its graph node by node, with its weights as parameters (needs PyTorch)."""
