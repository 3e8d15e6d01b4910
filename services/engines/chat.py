"""A conversation as a model's prompt: its chat template, rendered once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from jinja2.exceptions import TemplateError

from atts_core.errors import BadInput, PromptTooLong
from atts_core.types import Ids, Message, as_ids


class Chat:
    """Renders conversations for one model.

    A model without a chat template reads `User: …`, `Assistant: …` and `System: …` paragraphs
    and continues after a last `Assistant:`. `template` is the template's fingerprint.
    """

    def __init__(self, tokenizer: Any, model: str, max_len: int) -> None:
        self._tokenizer = tokenizer
        self._model = model
        self._max_len = max_len
        self.templated = bool(tokenizer.chat_template)
        template = json.dumps(tokenizer.chat_template, sort_keys=True)
        self.template = hashlib.sha256(template.encode()).hexdigest()[:16]

    def render(self, messages: Sequence[Message]) -> Ids:
        """Ids of the prompt, ready for the answer.

        Raises PromptTooLong where no token of an answer fits the context, and BadInput where the
        template refuses the conversation.
        """
        ids = self._ids(messages)
        if len(ids) >= self._max_len:
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens, {self._model} reads at most {self._max_len}, "
                "its answer included",
                field="messages",
            )
        if not ids:
            raise BadInput(f"the prompt is empty for {self._model}", field="messages")
        return as_ids(ids)

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        if not messages:
            raise BadInput("a question needs at least one message", field="messages")
        if not self._tokenizer.chat_template:
            parts = [f"{message.role.capitalize()}: {message.content}" for message in messages]
            return list(self._tokenizer.encode("\n\n".join([*parts, "Assistant:"])))
        try:
            return self._templated(messages)
        except TemplateError as error:
            raise BadInput(
                f"the chat template of {self._model} refuses {self._culprit(messages)}: {error}",
                field="messages",
            ) from None

    def _templated(self, messages: Sequence[Message]) -> list[int]:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return list(
            self._tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, tokenize=True, return_dict=False
            )
        )

    def _culprit(self, messages: Sequence[Message]) -> str:
        """The role without which the template takes the conversation, or all roles in order."""
        for role in ("system", "assistant"):
            others = [message for message in messages if message.role != role]
            if 0 < len(others) < len(messages) and self._takes(others):
                return f"messages of the role '{role}'"
        return f"messages of the roles {', '.join(message.role for message in messages)}"

    def _takes(self, messages: Sequence[Message]) -> bool:
        try:
            self._templated(messages)
        except TemplateError:
            return False
        return True
