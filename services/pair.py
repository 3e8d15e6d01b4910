"""Which two models work together, and the identity that every calibration score carries."""

from __future__ import annotations

from atts_core.answers import BOXED
from atts_core.calibration.keys import PairKey
from atts_core.engine import Capabilities, Engine
from atts_core.errors import BadInput
from atts_core.scoring import DEFINITION


def pair_of(draft: Engine, target: Engine) -> PairKey:
    """Both models by name and vocabulary, the target's template, and what a score is.

    Raises `BadInput` where the two cannot work on one chain.
    """
    one, other = draft.capabilities, target.capabilities
    require_common_answers(one, other)
    return PairKey(
        draft=f"{one.model}@{one.vocabulary}",
        target=f"{other.model}@{other.vocabulary}",
        template=other.template,
        score=DEFINITION,
    )


def require_common_answers(draft: Capabilities, target: Capabilities) -> None:
    """Both models end a chain in the same way, and the target can judge.

    Where one answers as a chat assistant and the other continues plain paragraphs, neither knows
    the other's turn from its own; two without a template share the plain form.
    """
    for field, model in (("draft", draft), ("target", target)):
        if not model.writes_answers:
            raise BadInput(
                f"{field}: the vocabulary of {model.model} cannot write {BOXED}, with which a "
                "chain gives its answer; choose a model that can",
                field=field,
            )
    if draft.chats != target.chats:
        field, model, other = ("target", target, draft) if draft.chats else ("draft", draft, target)
        raise BadInput(
            f"{field}: {model.model} has no chat template, {other.model} has one, so they do not "
            "answer in the same way; choose the chat version of the model, or give its tokenizer "
            "a chat_template",
            field=field,
        )
    require_scores(target)


def require_scores(target: Capabilities) -> None:
    """BadInput where a model that cannot rate a given text is to be the target."""
    if not target.scores:
        raise BadInput(
            f"target: {target.model} ({target.engine}) gives no log-probabilities of a given text, "
            "by which a target judges; use it as the draft, and as the target a vLLM or SGLang "
            "server, or engine: transformers",
            field="target",
        )
