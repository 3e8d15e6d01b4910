"""A request says as what its answers are compared; the reply says as what they were."""

from typing import Any

import pytest

from atts_core.engine import Generate, Line
from tests.services.conftest import backend, client

ASKED = "What is 1 + 1?"
LISTED = "Which is prime?\nA. 4\nB. 7\nC. 9"


def says(*answers: str) -> Any:
    def write(seen: str, request: Generate) -> Line:
        return Line(rf"\boxed{{{answers[int(request.chain.rpartition('/')[2])]}}}")

    return write


async def reply_to(question: str, *answers: str, **atts: Any) -> Any:
    wishes = {"candidates": len(answers), "seed": 1, "consensus": False, "takeover_rate": 1e-6}
    body = {
        "model": "atts",
        "messages": [{"role": "user", "content": question}],
        "atts": wishes | atts,
    }
    async with client(backend(says(*answers))) as http:
        response = await http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    return response.json()["atts"]


@pytest.mark.parametrize(
    ("question", "answers", "atts", "how", "classes"),
    [
        (ASKED, ("1/2", "0.5", "50%"), {}, "math", 1),
        (ASKED, ("1/2", "0.5", "50%"), {"comparison": "text"}, "text", 3),
        (ASKED, ("1/2", "about 0.5", "50%"), {"comparison": "number"}, "number", 1),
        (ASKED, ("100", "99"), {"comparison": "number", "tolerance": 0.02}, "number", 1),
        (LISTED, ("(B)", "B. 7", "7"), {}, "choice", 1),
        (LISTED, ("(B)", "B"), {"comparison": "math"}, "math", 1),
    ],
)
async def test_votes_join_as_asked_or_detected(
    question: str, answers: tuple[str, ...], atts: dict[str, Any], how: str, classes: int
) -> None:
    told = await reply_to(question, *answers, **atts)
    assert told["comparison"] == {"as": how, "undecided": 0}
    assert len(told["votes"]) == classes


@pytest.mark.parametrize(
    ("atts", "param"), [({"comparison": "maths"}, "comparison"), ({"tolerance": 1}, "tolerance")]
)
async def test_what_is_not_allowed_is_named(atts: dict[str, Any], param: str) -> None:
    body = {"model": "atts", "messages": [{"role": "user", "content": ASKED}], "atts": atts}
    async with client(backend()) as http:
        response = await http.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"] == f"atts.{param}"
