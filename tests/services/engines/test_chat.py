"""Templates of reasoning models: rendered once, and then only ids are appended."""

from __future__ import annotations

from tiny import wrapped

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
    return TextCodec(tokenizer)._shows(ids)


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
