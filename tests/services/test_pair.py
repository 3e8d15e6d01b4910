"""Two models that cannot work on one chain are refused before anything is served."""

from __future__ import annotations

from dataclasses import replace

import pytest

from atts_core.engine import Capabilities, ScriptedEngine
from atts_core.errors import BadInput
from services.pair import pair_of


class Told(ScriptedEngine):
    """A scripted engine with other capabilities."""

    def __init__(self, name: str, **changed: bool) -> None:
        super().__init__(lambda seen, request: "", name=name)
        self._told = replace(super().capabilities, **changed)

    @property
    def capabilities(self) -> Capabilities:
        return self._told


def refused(draft: Told, target: Told) -> BadInput:
    with pytest.raises(BadInput) as error:
        pair_of(draft, target)
    return error.value


def test_a_pair_is_known_by_both_models() -> None:
    pair = pair_of(Told("small"), Told("large"))
    assert (pair.draft, pair.target) == ("small@characters", "large@characters")


def test_a_chat_model_and_one_without_a_template_do_not_answer_alike() -> None:
    error = refused(Told("base", chats=False), Told("chat"))
    assert error.field == "draft"
    assert "base has no chat template, chat has one" in error.message
    assert refused(Told("chat"), Told("base", chats=False)).field == "target"


def test_two_models_without_a_template_share_the_plain_form() -> None:
    pair_of(Told("base", chats=False), Told("large", chats=False))


@pytest.mark.parametrize("side", ["draft", "target"])
def test_a_vocabulary_that_cannot_write_an_answer(side: str) -> None:
    pair = {"draft": Told("small"), "target": Told("large")}
    pair[side] = Told("mute", writes_answers=False)
    error = refused(**pair)
    assert error.field == side
    assert "mute cannot write \\boxed" in error.message


def test_a_target_without_scores() -> None:
    assert refused(Told("small"), Told("large", scores=False)).field == "target"
