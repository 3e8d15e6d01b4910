"""RMS norms are replaced only by what computes the same."""

from __future__ import annotations

import torch
from tiny import small_model

from services.engines import norms


class TwiceRMSNorm(torch.nn.Module):
    """Its name says RMS norm; it adds 1 to the weight, as Gemma's does."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(8))
        self.eps = 1e-6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * (1 + self.weight)


def test_all_norms_of_a_llama_are_fused_and_its_output_stays() -> None:
    model = small_model("llama", 50, 0)
    ids = torch.arange(50)[None]
    with torch.inference_mode():
        before = model(ids).logits
        assert norms.fuse(model) == 5
        assert (model(ids).logits - before).abs().max() < 1e-4


def test_norms_of_another_kind_are_left_alone() -> None:
    assert norms.fuse(torch.nn.Sequential(TwiceRMSNorm())) == 0
    assert norms.fuse(small_model("gpt2", 50, 0)) == 0
