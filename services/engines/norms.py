"""RMS norms in one operation where a model spells them out in six."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import rms_norm


def fuse(model: Any) -> int:
    """Have the model's RMS norms computed by torch's own; returns how many.

    Only those in single precision, and only where the result is the same: there are norms of that
    name that add 1 to their weight, or norm parts of their input.
    """
    return sum(_fuse(module) for module in model.modules() if _is_rms_norm(module))


def _is_rms_norm(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return (
        type(module).__name__.endswith("RMSNorm")
        and isinstance(weight, torch.Tensor)
        and weight.dim() == 1
        and weight.dtype == torch.float32
    )


def _fuse(module: Any) -> bool:
    weight = module.weight
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if not isinstance(epsilon, float):
        return False

    def forward(hidden_states: torch.Tensor) -> torch.Tensor:
        return rms_norm(hidden_states, weight.shape, weight, epsilon)

    with torch.inference_mode():
        # Small numbers too: there epsilon counts.
        scale = torch.logspace(-4, 2, 7, device=weight.device)[:, None]
        trial = scale * torch.linspace(-1, 2, len(weight), device=weight.device)
        if not torch.allclose(forward(trial), module(trial), rtol=1e-5, atol=1e-6):
            return False
    module.forward = forward
    return True
