"""The engine's scores against the model's plain forward pass, before anything is served."""

from __future__ import annotations

import numpy as np
import torch

from atts_core.errors import BadInput
from services.engines.checkpoint import Checkpoint
from services.engines.jobs import ScoreJob
from services.engines.step_loop import StepLoop

_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.3}


@torch.inference_mode()
def check(loaded: Checkpoint, steps: StepLoop) -> None:
    """Rate a few tokens twice, the second time behind a stored prefix, and compare.

    Raises BadInput where a model's attention, positions or cache are not what the engine assumes.
    """
    length = min(12, loaded.max_len, steps.store.tokens)
    ids = np.linspace(0, loaded.vocabulary_size - 1, length).astype(np.int32)
    plain = loaded.model.plain(torch.from_numpy(ids.astype(np.int64))[None].to(loaded.kv.device))
    expected = torch.log_softmax(plain[0].float(), -1).cpu().numpy()
    for start in {1, length // 2}:
        job = ScoreJob(chain="probe", ids=ids, start=start)
        steps.add(job)
        while steps.busy:
            steps.step()
        rated = np.concatenate(job.logprobs)
        wanted = expected[np.arange(start - 1, length - 1), ids[start:]]
        apart = float(np.abs(rated - wanted).max())
        if not apart <= _TOLERANCE.get(loaded.kv.dtype, 0.3):
            raise BadInput(
                f"cannot use the model {loaded.name}: its scores are off by {apart:.3g} nats when "
                "its KV is kept, so its attention is of a kind this engine does not know",
                field="model",
            )
    steps.forget()
