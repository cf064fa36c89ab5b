"""In which precision a device multiplies fast: a processor without units for bfloat16 is far slower with it."""

from __future__ import annotations

import torch


def fast_type(device: torch.device) -> torch.dtype:
    """Return bfloat16 where a device has units for it, otherwise float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}  # PyTorch 2.9
    has_units = any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.bfloat16 if has_units else torch.float32
