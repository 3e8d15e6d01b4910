"""From a question to what each model reads first: rendered once, then frozen.

Partial reasoning never goes back into a message: chat templates strip, re-render or refuse it.
"""

from __future__ import annotations

import asyncio

from atts_core.engine import Engine
from atts_core.types import Ids, Question


async def render(question: Question, draft: Engine, target: Engine) -> tuple[Ids, Ids]:
    """The prompt in the draft's and in the target's ids; `PromptTooLong` where one cannot hold it.

    Each model gets its own chat template: a template is part of what a model was trained on.
    """
    try:
        async with asyncio.TaskGroup() as both:
            by_draft = both.create_task(draft.render(question.messages))
            by_target = both.create_task(target.render(question.messages))
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return by_draft.result(), by_target.result()
