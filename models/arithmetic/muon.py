"""Muon for hidden matrices (Jordan et al. 2024), AdamW for embeddings and norms."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.optim import Optimizer


def orthogonalize(gradients: Tensor, rounds: int = 5) -> Tensor:
    """The nearest semi-orthogonal matrix of each in [n, rows, columns], by Newton-Schulz.

    The quintic's coefficients trade exactness for speed: singular values end in 0.7..1.2.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x: Tensor = gradients.mT if gradients.size(-2) > gradients.size(-1) else gradients
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if gradients.size(-2) > gradients.size(-1) else x


class Muon(Optimizer):
    """Nesterov momentum whose update is orthogonalised; same-shaped matrices go together."""

    def __init__(self, matrices: Iterable[Tensor], lr: float, momentum: float, decay: float):
        super().__init__(list(matrices), {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                by_shape[matrix.shape].append(matrix)
            for matrices in by_shape.values():
                self._step_together(matrices, group["lr"], group["momentum"], group["decay"])

    def _step_together(
        self, matrices: list[Tensor], lr: float, momentum: float, decay: float
    ) -> None:
        updates = []
        for matrix in matrices:
            assert matrix.grad is not None
            state = self.state[matrix]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(matrix)
            running: Tensor = state["momentum"]
            running.lerp_(matrix.grad, 1 - momentum)
            updates.append(matrix.grad.lerp(running, momentum))
        rows, columns = matrices[0].shape
        scale = max(1.0, rows / columns) ** 0.5
        for matrix, update in zip(matrices, orthogonalize(torch.stack(updates)), strict=True):
            matrix.mul_(1 - lr * decay).add_(update, alpha=-lr * scale)
