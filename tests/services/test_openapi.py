"""The OpenAPI document is true: requests made from it find no 5xx, and no reply it lacks."""

from __future__ import annotations

import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis import Case, GenerationMode

from services.http_app import create_app
from tests.services.conftest import backend, client

TINY = {
    "limits": {"max_candidates": 4, "max_turns": 3, "max_segment_tokens": 200},
    "method": {"candidates": 2, "turns": 2},
}
APP = create_app(backend(**TINY))
SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP)
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]
ASKING = [one for one in OPERATIONS if one.body]
READING = [one for one in OPERATIONS if not one.body]
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


def name_of(one: Any) -> str:
    return one.label if hasattr(one, "label") else str(one.value)


def send(operation: Any, mode: GenerationMode, requests: int) -> int:
    """Make requests of an operation and hold each reply against the document; how many."""
    sent = 0

    @settings(
        max_examples=requests,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def each(case: Case) -> None:
        nonlocal sent
        sent += 1
        case.call_and_validate(excluded_checks=NOT_THE_DOCUMENT_S)

    each()
    return sent


NOT_THE_DOCUMENT_S = [
    # What is wrong with a request is said by our errors, beyond what JSON Schema can say: an
    # unknown model, a last message that is not the user's.
    schemathesis.checks.positive_data_acceptance,
    # Its probes send other methods and other content types: our own tests do that.
    schemathesis.checks.unsupported_method,
]


@pytest.mark.parametrize("mode", MODES, ids=name_of)
@pytest.mark.parametrize("operation", ASKING, ids=name_of)
def test_no_generated_request_breaks_the_document(operation: Any, mode: GenerationMode) -> None:
    assert send(operation, mode, 45) >= 45


@pytest.mark.parametrize("operation", READING, ids=name_of)
def test_what_is_read_is_as_the_document_says(operation: Any) -> None:
    send(operation, GenerationMode.POSITIVE, 20 if "{" in operation.path else 1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("mode", MODES, ids=name_of)
@pytest.mark.parametrize("operation", ASKING, ids=name_of)
def test_two_thousand_generated_requests_break_nothing(
    operation: Any, mode: GenerationMode
) -> None:
    assert send(operation, mode, 500) >= 500


# ------------------------------------------------------------------------ what it documents


def schema_of(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}", "components": APP.openapi()["components"]}


EXAMPLES = [
    (path, name, example["value"])
    for path, item in APP.openapi()["paths"].items()
    for operation in item.values()
    for content in operation.get("requestBody", {}).get("content", {}).values()
    for name, example in content["examples"].items()
]


def test_every_question_has_examples() -> None:
    assert {path for path, _, _ in EXAMPLES} == {one.path for one in ASKING}


@pytest.mark.parametrize(("path", "name", "body"), EXAMPLES)
async def test_every_example_is_answered(path: str, name: str, body: dict[str, Any]) -> None:
    async with client(backend()) as http:
        response = await http.post(path, json=body)
    assert response.status_code == 200, response.text
    if not body.get("stream"):
        whole = "ChatCompletion" if "chat" in path else "TextCompletion"
        Draft202012Validator(schema_of(whole)).validate(response.json())


def test_errors_are_documented_in_openai_s_shape_and_as_they_come() -> None:
    document = APP.openapi()
    assert "HTTPValidationError" not in document["components"]["schemas"]
    for item in document["paths"].values():
        for operation in item.values():
            assert operation["responses"].get("422", {}).get("description") != "Validation Error"
            for status, response in operation["responses"].items():
                if status.startswith("4"):
                    assert "ErrorReply" in json.dumps(response)


def test_every_route_that_wants_a_key_may_refuse_one() -> None:
    key = {"name": "ann", "sha256": "0" * 64}
    for path, item in create_app(backend(access={"keys": [key]})).openapi()["paths"].items():
        for operation in item.values():
            refusals = {"401", "429"} & set(operation["responses"])
            assert refusals == ({"401", "429"} if "security" in operation else set()), path


def test_where_keys_are_set_the_document_says_which_routes_want_one() -> None:
    key = {"name": "ann", "sha256": "0" * 64}
    paths = create_app(backend(access={"keys": [key]})).openapi()["paths"]
    assert paths["/v1/chat/completions"]["post"]["security"] == [{"key": []}]
    assert "security" not in paths["/health"]["get"]
