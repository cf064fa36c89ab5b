"""A network learns from another on pictures without labels (needs PyTorch)."""
