"""How far an FP16 network is from its FP32 original."""
