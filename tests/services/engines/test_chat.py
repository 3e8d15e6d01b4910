"""Templates of reasoning models: rendered once, and then only ids are appended."""

from __future__ import annotations

import pytest
from tiny import wrapped

from atts_core.errors import BadInput
from atts_core.types import Message
from services.engines.chat import Chat
from services.engines.text_codec import TextCodec

ASKED = (
    Message("user", "1+1?"),
    Message("assistant", "<think>\nTwo.\n</think>\n\nIt is 2."),
    Message("user", "And 2+2?"),
)

# What an earlier answer thought is dropped, and the new one's thought is opened.
R1 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}{% else %}"
    "<|assistant|>{{ m['content'].split('</think>')[-1] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
# The same with the blank lines taken off, as in QwQ.
QWQ = R1.replace("[-1] }}", "[-1].lstrip('\n') }}")
# Thoughts are dropped before the last question only, and the model opens its own, as in Qwen3.
QWEN3 = (
    "{% set last = namespace(user=0) %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}{% set last.user = loop.index0 %}"
    "{% endif %}{% endfor %}"
    "{% for m in messages %}{% set text = m['content'] %}"
    "{% if m['role'] == 'assistant' and loop.index0 < last.user %}"
    "{% set text = text.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "<|{{ m['role'] }}|>{{ text }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def rendered(template: str | None, *messages: Message) -> str:
    tokenizer = wrapped("byte_level")
    tokenizer.chat_template = template
    ids = Chat(tokenizer, "tiny", 1000).render(messages)
    return TextCodec(tokenizer).shows(ids)


def test_r1_drops_earlier_thoughts_and_opens_the_next() -> None:
    expected = "<|user|>1+1?<|assistant|>\n\nIt is 2.<|end|><|user|>And 2+2?<|assistant|><think>\n"
    assert rendered(R1, *ASKED) == expected


def test_qwq_takes_the_blank_lines_off_too() -> None:
    expected = "<|user|>1+1?<|assistant|>It is 2.<|end|><|user|>And 2+2?<|assistant|><think>\n"
    assert rendered(QWQ, *ASKED) == expected


def test_qwen3_leaves_the_opening_to_the_model() -> None:
    expected = "<|user|>1+1?<|assistant|>It is 2.<|user|>And 2+2?<|assistant|>"
    assert rendered(QWEN3, *ASKED) == expected


def test_a_system_prompt_comes_first() -> None:
    text = rendered(QWEN3, Message("system", "Be brief."), Message("user", "1+1?"))
    assert text == "<|system|>Be brief.<|user|>1+1?<|assistant|>"


def test_models_that_open_thoughts_differently_share_a_chain() -> None:
    """A model whose prompt opens the thought reads another's text without its opening."""
    tokenizer = wrapped("byte_level")
    codec = TextCodec(tokenizer)
    written = "<think>\nFour."
    for template, kept in ((R1, "Four."), (QWEN3, written)):
        tokenizer.chat_template = template
        prompt = Chat(tokenizer, "tiny", 1000).render((Message("user", "2+2?"),))
        assert codec.after(prompt, written) == kept


def test_a_template_is_known_by_its_fingerprint() -> None:
    tokenizer = wrapped("byte_level")
    prints = set()
    for template in (R1, QWQ, QWEN3, None):
        tokenizer.chat_template = template
        prints.add(Chat(tokenizer, "tiny", 1000).template)
    assert len(prints) == 4


# The system's words stand before all turns, wherever they come, as in DeepSeek-R1's own template.
SYSTEM_FIRST = (
    "{% set ns = namespace(system='') %}{% for m in messages %}{% if m['role'] == 'system' %}"
    "{% set ns.system = ns.system + m['content'] %}{% endif %}{% endfor %}{{ ns.system }}"
    "{% for m in messages if m['role'] != 'system' %}<|{{ m['role'] }}|>"
    "{{ m['content'].split('</think>')[-1] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
# No system prompt, and strict turns, as in Gemma's.
STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for m in messages %}"
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def test_the_systems_words_are_kept_over_several_turns() -> None:
    text = rendered(SYSTEM_FIRST, Message("system", "Be brief."), *ASKED)
    assert text == (
        "Be brief.<|user|>1+1?<|assistant|>\n\nIt is 2.<|user|>And 2+2?<|assistant|><think>\n"
    )


def test_a_template_that_refuses_a_role_is_told_by_the_role() -> None:
    with pytest.raises(BadInput, match="'system': System role not supported") as error:
        rendered(STRICT, Message("system", "Be brief."), *ASKED)
    assert error.value.field == "messages"
    assert "tiny" in error.value.message


def test_a_template_that_refuses_the_order_is_told_all_roles() -> None:
    with pytest.raises(BadInput, match="roles user, user: Conversation roles must alternate"):
        rendered(STRICT, Message("user", "1+1?"), Message("user", "And 2+2?"))


def test_models_without_a_template_read_paragraphs() -> None:
    text = rendered(None, Message("system", "Be brief."), *ASKED)
    assert text.startswith("System: Be brief.\n\nUser: 1+1?\n\nAssistant: ")
    assert text.endswith("User: And 2+2?\n\nAssistant:")


@pytest.mark.parametrize("template", [R1, QWQ, QWEN3, SYSTEM_FIRST, STRICT, None])
def test_a_conversation_is_rendered_the_same_every_time(template: str | None) -> None:
    assert rendered(template, *ASKED) == rendered(template, *ASKED)
