"""OpenAI's fields that are not honoured here: each refused by name, or known to be harmless."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from atts_core.errors import BadInput


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a field is refused; `neutral` are the values that ask for nothing, which may stand."""

    why: str
    neutral: tuple[Any, ...] = ()

    def allows(self, value: Any) -> bool:
        # By type too: False is no 0, and 0.0 is one.
        return value is None or any(
            value == one and isinstance(value, bool) == isinstance(one, bool)
            for one in self.neutral
        )


_TOOLS = "tools are not called here"
_SCORES = "it would change the scores that the gate rests on"
_LOGPROBS = "log-probabilities of many candidates have no place in one choice"

_ACCOUNT = {
    "service_tier": Refused("all requests are served alike", ("auto", "default")),
    "store": Refused("what is kept of a run is the server's setting runs.history", (False,)),
}
"""Fields of either request that ask for a service around the answer."""

CHAT = {
    "audio": Refused("speech is not produced here"),
    "frequency_penalty": Refused(_SCORES, (0,)),
    "function_call": Refused(_TOOLS, ("none", "auto")),
    "functions": Refused(_TOOLS, ([],)),
    "logit_bias": Refused(_SCORES, ({},)),
    "logprobs": Refused(_LOGPROBS, (False,)),
    "modalities": Refused("answers are text", (["text"],)),
    "moderation": Refused("nothing is moderated here"),
    "parallel_tool_calls": Refused(_TOOLS, (True, False)),
    "prediction": Refused("candidates are drafted by a model of our own"),
    "presence_penalty": Refused(_SCORES, (0,)),
    **_ACCOUNT,
    "response_format": Refused("answers are free text", ({"type": "text"},)),
    "tool_choice": Refused(_TOOLS, ("none", "auto")),
    "tools": Refused(_TOOLS, ([],)),
    "top_logprobs": Refused(_LOGPROBS, (0,)),
    "verbosity": Refused("an answer is as long as its chain made it", ("medium",)),
    "web_search_options": Refused("nothing is looked up on the web"),
}
"""Fields of a chat completion's request that would change the answer."""

TEXT = {
    "best_of": Refused("ask for chains with atts.candidates", (1,)),
    "echo": Refused("the text is the answer alone", (False,)),
    "frequency_penalty": Refused(_SCORES, (0,)),
    "logit_bias": Refused(_SCORES, ({},)),
    "logprobs": Refused(_LOGPROBS),
    "presence_penalty": Refused(_SCORES, (0,)),
    **_ACCOUNT,
    "suffix": Refused("text is continued, not filled in", ("",)),
}
"""Fields of a text completion's request that would change the answer."""

MESSAGE = {
    "audio": Refused("speech is not read here"),
    "function_call": Refused(_TOOLS),
    "tool_call_id": Refused(_TOOLS),
    "tool_calls": Refused(_TOOLS, ([],)),
}
"""Fields of a message that would change what is asked."""

IGNORED = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "user",
    }
)
"""Fields of a request that change no answer: accepted, without effect."""

MESSAGE_IGNORED = frozenset({"annotations", "name", "reasoning", "reasoning_content", "refusal"})
"""Fields of a message that no chat template is given: accepted, without effect."""


def refuse(
    given: Mapping[str, Any],
    refused: Mapping[str, Refused],
    ignored: frozenset[str],
    honoured: Iterable[str],
    *,
    where: str = "",
) -> None:
    """Refuse by name what is not honoured: silence would be a wrong answer.

    Raises `BadInput`, for an unknown name with the nearest known one.
    """
    for name, value in given.items():
        known = refused.get(name)
        if name in ignored or (known is not None and known.allows(value)):
            continue
        field = where + name
        if known is not None:
            raise BadInput(f"{field}: not supported; {known.why}", field=field)
        near = difflib.get_close_matches(name, [*honoured, *ignored, *refused], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BadInput(f"{field}: unknown field{hint}", field=field)
