"""The clients applications already have, through Serve and its proxy: OpenAI's own, and litellm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI

from models.arithmetic.problems import held_out

pytestmark = pytest.mark.serve

QUESTION: Any = [
    {"role": "user", "content": "Start with 47. Add 38. Multiply by 3. What is the result?"}
]
ATTS = {"atts": {"candidates": 4, "seed": 1}}
STATEMENT = r"The result is \boxed{255}."


@pytest.fixture
def llm(served: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served}/v1", api_key="unused", timeout=120, max_retries=0) as client:
        yield client


def test_the_client_gets_an_answer(llm: OpenAI) -> None:
    reply: Any = llm.chat.completions.create(model="atts", messages=QUESTION, extra_body=ATTS)
    assert reply.choices[0].message.content == STATEMENT
    assert reply.atts["answer"] == "255"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_the_client_streams(llm: OpenAI) -> None:
    chunks = list(
        llm.chat.completions.create(
            model="atts",
            messages=QUESTION,
            stream=True,
            stream_options={"include_usage": True},
            extra_body=ATTS,
        )
    )
    said = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(said) == STATEMENT
    assert chunks[-1].usage is not None


def test_the_client_raises_its_own_errors(llm: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="did you mean 'candidates'") as caught:
        llm.chat.completions.create(
            model="atts", messages=QUESTION, extra_body={"atts": {"candidats": 3}}
        )
    assert caught.value.param == "atts.candidats"
    with pytest.raises(openai.NotFoundError, match="served are: atts"):
        llm.chat.completions.create(model="gpt", messages=QUESTION)


def test_the_client_gives_up_when_its_time_is_over_and_may_ask_again(llm: OpenAI) -> None:
    long: Any = [{"role": "user", "content": next(iter(held_out(1, seed=9))).question}]
    with pytest.raises(openai.APITimeoutError):
        llm.with_options(timeout=0.5).chat.completions.create(
            model="atts",
            messages=long,
            extra_body={"atts": {"candidates": 64, "consensus": False}},
        )
    assert llm.chat.completions.create(model="atts", messages=QUESTION, extra_body=ATTS).choices


def test_litellm_gets_an_answer(served: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # nothing is fetched
    import litellm

    reply: Any = litellm.completion(
        model="openai/atts",
        api_base=f"{served}/v1",
        api_key="unused",
        messages=QUESTION,
        extra_body=ATTS,
        num_retries=0,
    )
    assert reply.choices[0].message.content == STATEMENT
