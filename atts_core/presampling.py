"""The paper's warm-up: first segments of the question fill its bank before it decides.

Source: arXiv 2509.15148; its published code calibrates on m turn-0 segments a question. An option:
the smoothed p-value holds its rate without it, from the first segment on.
"""

from __future__ import annotations

import asyncio
from time import monotonic

from atts_core import events
from atts_core.candidate import Run
from atts_core.engine import Generate, Rate, Sampling, owned
from atts_core.errors import EngineError
from atts_core.randomness import sampling_seed
from atts_core.scoring import score_of
from atts_core.types import EngineCost, History, Ids, Score, Scored, Segment


async def presample(run: Run, by_draft: Ids, by_target: Ids) -> None:
    """Draft and score one first segment a candidate; the gate learns their scores, undecided.

    A segment that fails is left out: the bank is smaller by one.
    """
    async with asyncio.TaskGroup() as segments:
        tasks = [
            segments.create_task(_segment(run, index, by_draft, by_target))
            for index in range(run.method.candidates)
        ]
    run.gate.warm(run.id, [score for task in tasks if (score := task.result()) is not None])


async def _segment(run: Run, index: int, by_draft: Ids, by_target: Ids) -> Score | None:
    method, chain, began = run.method, f"{run.id}/presample-{index}", monotonic()
    drafting = run.draft.generate(
        Generate(
            chain=chain,
            history=History(by_draft),
            max_tokens=method.draft_tokens,
            sampling=Sampling(method.temperature, method.top_p, method.top_k),
            seed=sampling_seed(run.seed, index, 0, "presample"),
            stop=method.segment_stop + method.stop,
        )
    )
    scoring = run.target.score(Rate(chain, History(by_target)), drafting)
    segment: Segment | None = None
    scored: Scored | None = None
    score: Score | None = None
    try:
        with owned(drafting, scoring):
            segment = await drafting
            if segment.tokens:
                scored = await scoring
        if scored is not None and len(scored.ids):
            score = score_of(scored)
    except EngineError:
        return None
    finally:
        if segment is not None:  # written is written, whatever became of its score
            run.emit(
                events.Presampled(
                    run.at,
                    index,
                    tokens=segment.tokens,
                    scored=0 if score is None else score.tokens,
                    nll=None if score is None else score.nll,
                    seconds=monotonic() - began,
                    draft_cost=segment.cost,
                    target_cost=EngineCost() if scored is None else scored.cost,
                )
            )
    return score
