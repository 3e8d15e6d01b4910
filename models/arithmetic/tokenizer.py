"""The pair's tokenizer: digits one by one, fixed phrases whole, every other text byte by byte."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
SPECIALS = (PAD, USER, ASSISTANT, END)
PHRASES = (
    "Start with ",
    "Add ",
    "Subtract ",
    "Multiply by ",
    ". ",
    "What is the result?",
    " + ",
    " - ",
    " * ",
    " = ",
    "\n\n",
    "The result is \\boxed{",
    "}.",
    "Check. ",
)
MAX_LENGTH = 2048
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}<|user|>{{ message['content'] }}"
    "{%- elif message['role'] == 'assistant' -%}<|assistant|>{{ message['content'] }}<|end|>"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)
"""System messages are left out: the models know one kind of task and were never told of another."""

_BYTES = tuple(sorted(pre_tokenizers.ByteLevel.alphabet()))
IDS = {token: i for i, token in enumerate((*SPECIALS, *_BYTES, *PHRASES))}
PAD_ID, END_ID = IDS[PAD], IDS[END]
_PIECES = re.compile("|".join(map(re.escape, sorted((*SPECIALS, *PHRASES), key=len)[::-1])) + "|.")


def build() -> PreTrainedTokenizerFast:
    """The tokenizer, out of nothing but this file."""
    letters = {letter: IDS[letter] for letter in _BYTES}
    base = {token: IDS[token] for token in SPECIALS} | letters
    inner = Tokenizer(models.BPE(vocab=base, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(token, special=True) for token in SPECIALS])
    inner.add_tokens([AddedToken(token, normalized=False) for token in PHRASES])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def save(folder: Path) -> None:
    """Write the tokenizer's files into a model's folder."""
    build().save_pretrained(str(folder))


@lru_cache(maxsize=200_000)
def ids_of(text: str) -> tuple[int, ...]:
    """Token ids of a training text: the same as the tokenizer's, faster. ASCII only."""
    return tuple(IDS[piece] if piece in IDS else IDS[_letter(piece)] for piece in _split(text))


def _split(text: str) -> list[str]:
    return _PIECES.findall(text)


def _letter(character: str) -> str:
    """The byte alphabet's stand-in for a character without a visible form."""
    return "\u0120" if character == " " else character
