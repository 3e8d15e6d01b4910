"""Every parameter of OpenAI's client is honoured, refused by name, or known to be harmless."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types import completion_create_params
from openai.types.chat import (
    ChatCompletionAssistantMessageParam,
    ChatCompletionDeveloperMessageParam,
    ChatCompletionStreamOptionsParam,
    ChatCompletionSystemMessageParam,
    ChatCompletionUserMessageParam,
)
from openai.types.chat import (
    completion_create_params as chat_params,
)

from services.completions import CompletionRequest
from services.openai_fields import CHAT, IGNORED, MESSAGE, MESSAGE_IGNORED, TEXT
from services.wire import ChatMessage, ChatRequest, StreamOptions
from tests.services.conftest import backend, client


def parameters(*kinds: Any) -> set[str]:
    return {name for kind in kinds for name in kind.__annotations__}


CHAT_PARAMETERS = parameters(
    chat_params.CompletionCreateParamsBase, chat_params.CompletionCreateParamsStreaming
)
TEXT_PARAMETERS = parameters(
    completion_create_params.CompletionCreateParamsBase,
    completion_create_params.CompletionCreateParamsStreaming,
)


def test_every_chat_parameter_is_decided() -> None:
    """A new one in the client fails here until somebody decides what it means."""
    assert CHAT_PARAMETERS - set(ChatRequest.model_fields) - set(CHAT) - IGNORED == set()


def test_every_text_parameter_is_decided() -> None:
    assert TEXT_PARAMETERS - set(CompletionRequest.model_fields) - set(TEXT) - IGNORED == set()


def test_every_parameter_of_a_message_is_decided() -> None:
    known = parameters(
        ChatCompletionAssistantMessageParam,
        ChatCompletionDeveloperMessageParam,
        ChatCompletionSystemMessageParam,
        ChatCompletionUserMessageParam,
    )
    assert known - set(ChatMessage.model_fields) - set(MESSAGE) - MESSAGE_IGNORED == set()


def test_every_stream_option_is_decided() -> None:
    assert set(ChatCompletionStreamOptionsParam.__annotations__) == set(StreamOptions.model_fields)


@pytest.mark.parametrize(("refused", "honoured"), [(CHAT, ChatRequest), (TEXT, CompletionRequest)])
def test_no_field_is_both_honoured_and_refused(refused: Any, honoured: Any) -> None:
    assert not (set(refused) | IGNORED) & set(honoured.model_fields)
    assert not set(refused) & IGNORED


async def answered(path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    async with client(backend()) as http:
        response = await http.post(path, json=body)
    return response.status_code, response.json().get("error", {})


CHAT_BODY = {"model": "atts", "messages": [{"role": "user", "content": "1 + 1?"}]}
TEXT_BODY = {"model": "atts", "prompt": "1 + 1?"}
ROUTES = [("/v1/chat/completions", CHAT_BODY, CHAT), ("/v1/completions", TEXT_BODY, TEXT)]
EACH = [(path, body, name) for path, body, table in ROUTES for name in table]
NEUTRAL = [
    (path, body, name, value)
    for path, body, table in ROUTES
    for name, refused in table.items()
    for value in (None, *refused.neutral)
]


@pytest.mark.parametrize(("path", "body", "name"), EACH, ids=lambda v: str(v)[:30])
async def test_what_is_not_honoured_is_refused_by_name(path: str, body: Any, name: str) -> None:
    status, error = await answered(path, {**body, name: "something"})
    assert (status, error["param"]) == (400, name)
    assert "not supported" in error["message"]


@pytest.mark.parametrize(("path", "body", "name", "value"), NEUTRAL, ids=lambda v: str(v)[:30])
async def test_what_asks_for_nothing_may_stand(path: str, body: Any, name: str, value: Any) -> None:
    status, error = await answered(path, {**body, name: value, "atts": {"candidates": 1}})
    assert status == 200, error


async def test_two_names_of_one_limit_may_agree() -> None:
    asked = CHAT_BODY | {"max_tokens": 50, "max_completion_tokens": 50, "atts": {"candidates": 1}}
    assert (await answered("/v1/chat/completions", asked))[0] == 200


@pytest.mark.parametrize("name", sorted(IGNORED))
async def test_what_changes_no_answer_is_accepted(name: str) -> None:
    asked = {**CHAT_BODY, name: json.loads('"auto"'), "atts": {"candidates": 1}}
    assert (await answered("/v1/chat/completions", asked))[0] == 200


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        (CHAT_BODY | {"temprature": 1}, "temprature", "did you mean 'temperature'"),
        (CHAT_BODY | {"max_token": 1}, "max_token", "did you mean 'max_tokens'"),
        (CHAT_BODY | {"top_logprobs": False}, "top_logprobs", "not supported"),
        (CHAT_BODY | {"stream_options": {"include_usage": True}}, "stream_options", "stream"),
        (CHAT_BODY | {"temperature": "0.5"}, "temperature", "valid number"),
        (CHAT_BODY | {"stream": "yes"}, "stream", "valid boolean"),
        (CHAT_BODY | {"stop": ""}, "stop.0", "at least 1"),
        (CHAT_BODY | {"stop": ["a"] * 5}, "stop", "at most 4"),
        (CHAT_BODY | {"stop": 5}, "stop", "found 5"),
        (CHAT_BODY | {"store": True}, "store", "not supported"),
        (CHAT_BODY | {"service_tier": "flex"}, "service_tier", "not supported"),
        (
            CHAT_BODY | {"max_tokens": 5, "max_completion_tokens": 6},
            "max_tokens",
            "beside max_completion_tokens: 6",
        ),
        (
            {"model": "atts", "messages": [{"role": "user", "content": "x", "tool_calls": [{}]}]},
            "messages.0.tool_calls",
            "not supported",
        ),
        (
            {"model": "atts", "messages": [{"role": "user", "content": "x", "nam": "y"}]},
            "messages.0.nam",
            "did you mean 'name'",
        ),
    ],
    ids=str,
)
async def test_a_field_that_cannot_be_is_named(body: Any, param: str, says: str) -> None:
    status, error = await answered("/v1/chat/completions", body)
    assert (status, error["param"]) == (400, param)
    assert says in error["message"]
