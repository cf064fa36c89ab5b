"""Compare an FP16 network with its FP32 counterpart."""
