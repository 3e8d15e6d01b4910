"""Which arrangement of a step a model works in: its results against a plain forward pass."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from atts_core.engine import Sampling
from atts_core.errors import BadInput
from atts_core.types import Ids
from services.engines.checkpoint import Checkpoint
from services.engines.forward import Forward
from services.engines.fused_decoder import FusedDecoder
from services.engines.jobs import GenerateJob, ScoreJob
from services.engines.kv_store import KvStore
from services.engines.packed_forward import ATTENTION, Decoder, PackedForward, by_modules
from services.engines.padded_forward import PaddedForward
from services.engines.settings import TransformersSettings
from services.engines.step_loop import StepLoop

log = logging.getLogger(__name__)

_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.3}
"""Nats by which the same score may differ, computed in another order."""


@torch.inference_mode()
def working_steps(loaded: Checkpoint, settings: TransformersSettings) -> StepLoop:
    """A step loop over `loaded` whose results are right, in the fastest arrangement that is.

    Raises BadInput where a model's attention, positions or cache are not what either assumes.
    """
    length = min(12, loaded.max_len - 2, settings.kv_tokens - 2)
    ids = np.linspace(0, loaded.vocabulary_size - 1, length).astype(np.int32)
    plain = _plain(loaded, ids)
    for how, decoder in _decoders(loaded):
        try:
            steps = _steps(loaded, settings, partial(PackedForward, decoder))
            apart = _distance(loaded, steps, ids, plain)
            if apart <= _TOLERANCE[loaded.kv.dtype]:
                return steps
            reason = f"its results are off by {apart:.3g} nats"
        except (NotImplementedError, TypeError, RuntimeError, IndexError) as error:
            reason = str(error)
        log.info("%s is not computed %s: %s", loaded.name, how, reason)
    loaded.model.use_attention(None)
    steps = _steps(loaded, settings, partial(PaddedForward, loaded.model))
    apart = _distance(loaded, steps, ids, plain)
    if not apart <= _TOLERANCE[loaded.kv.dtype]:
        raise BadInput(
            f"cannot use the model {loaded.name}: its results are off by {apart:.3g} nats when its "
            "KV is kept, so its attention is of a kind this engine does not know",
            field="model",
        )
    return steps


def _decoders(loaded: Checkpoint) -> Iterator[tuple[str, Decoder]]:
    """The ways of a packed step, the fastest first."""
    fused = FusedDecoder.of(loaded.model.module)
    if fused is not None:
        yield "in fused layers", fused
    if loaded.model.use_attention(ATTENTION):
        yield "without padding", by_modules(loaded.model)


def _steps(
    loaded: Checkpoint,
    settings: TransformersSettings,
    arrangement: Callable[[KvStore], Forward],
) -> StepLoop:
    store = KvStore(loaded.kv, settings.kv_tokens)
    return StepLoop(
        arrangement(store),
        store,
        name=loaded.name,
        end=loaded.end,
        max_batch=settings.max_batch,
        prefill_tokens=settings.prefill_tokens,
    )


def _distance(
    loaded: Checkpoint,
    steps: StepLoop,
    ids: Ids,
    plain: npt.NDArray[np.float32],
) -> float:
    """How far scores, with and without a stored prefix, and written tokens are from `plain`."""
    apart = 0.0
    for start in (1, max(1, len(ids) // 2)):
        score = ScoreJob(chain="probe", ids=ids, start=start)
        _finish(steps, score)
        wanted = plain[np.arange(start - 1, len(ids) - 1), ids[start:]]
        apart = max(apart, float(np.abs(np.concatenate(score.logprobs) - wanted).max()))
    write = GenerateJob(
        chain="probe", ids=ids, max_tokens=2, sampling=Sampling(0.0), draws=[0.0, 0.0], stops=None
    )
    _finish(steps, write)
    after = _plain(loaded, np.concatenate([ids, np.array(write.written, np.int32)]))
    for place, token in enumerate(write.written, start=len(ids) - 1):
        apart = max(apart, float(after[place].max() - after[place, token]))
    steps.forget()
    return apart


def _finish(steps: StepLoop, job: ScoreJob | GenerateJob) -> None:
    steps.add(job)
    while steps.busy:
        steps.step()


def _plain(loaded: Checkpoint, ids: Ids) -> npt.NDArray[np.float32]:
    """Log-probabilities `[tokens, vocabulary]` by the model as it comes."""
    tokens = torch.from_numpy(ids.astype(np.int64))[None].to(loaded.kv.device)
    rated: npt.NDArray[np.float32] = (
        torch.log_softmax(loaded.model.plain(tokens)[0].float(), -1).cpu().numpy()
    )
    return rated
