"""Text to token ids and back, piece by piece, so that no character is lost or doubled.

A tokenizer is made for whole texts. A chain is written in pieces, by two models: so a piece is
encoded without the space some tokenizers put before a text, decoded without losing the space some
strip there, and never ends within a character of several bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from atts_core.errors import BadInput
from atts_core.types import Ids, as_ids

OPENING = "<think>"
"""What reasoning models write, or find in their prompt already, before they think."""

_ANCHORS = ("\n", "a", ".", "0", " ", "中")
_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")
_WINDOW = 16


class TextCodec:
    """Encodes and decodes pieces of a text; may be used from several threads.

    `vocabulary` is a fingerprint of everything that maps text to ids and back.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise BadInput(
                f"the tokenizer {type(tokenizer).__name__} has no tokenizer.json form",
                field="model",
            )
        whole = backend.to_str()
        described = json.loads(whole)
        parts = ("added_tokens", "normalizer", "pre_tokenizer", "model", "decoder")
        text = json.dumps([described.get(part) for part in parts], sort_keys=True)
        self.vocabulary = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._bytes = _TokenBytes(described)
        # A copy of our own: the original changes its state with every call, and what a model
        # writes must never turn into a control token.
        self._tokenizer = Tokenizer.from_str(whole)
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._anchor, self._anchor_text = self._find_anchor()

    def encode(self, text: str) -> Ids:
        """Ids of `text` as the continuation of another text; specials in it are plain text."""
        if not text:
            return as_ids([])
        plain = self._encode(text)
        if self.decode(plain) == text:
            return as_ids(plain)
        for anchor in _ANCHORS:
            head, both = self._encode(anchor), self._encode(anchor + text)
            rest = both[len(head) :]
            if both[: len(head)] == head and self.decode(rest) == text:
                return as_ids(rest)
        return as_ids(plain)  # a tokenizer that cannot write this text exactly

    def decode(self, ids: Sequence[int] | Ids) -> str:
        """The text of `ids` where text stands before them; special tokens have none."""
        some = [int(i) for i in ids]
        if self._anchor is None:
            return self._decode(some)
        text = self._decode([self._anchor, *some])
        if text.startswith(self._anchor_text):
            return text[len(self._anchor_text) :]
        return self._decode(some)

    def whole(self, ids: Sequence[int]) -> int:
        """How many of `ids` remain when those of a last, unfinished character are held back."""
        count = len(ids)
        while count and _unfinished(self._bytes.last(ids[:count], 4)):
            count -= 1
        return count

    def after(self, history: Ids, text: str) -> str:
        """`text` without a `<think>` with which the history ends already."""
        bare = text.lstrip()
        if bare.startswith(OPENING) and self._shows(history[-_WINDOW:]).rstrip().endswith(OPENING):
            return bare[len(OPENING) :]
        return text

    def _shows(self, ids: Ids) -> str:
        return str(self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False))

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _find_anchor(self) -> tuple[int | None, str]:
        """An ordinary token to decode others behind, as if they stood within a text."""
        for i in range(self._tokenizer.get_vocab_size()):
            piece = self._tokenizer.id_to_token(i)
            if piece is None or piece.startswith("<"):  # a byte, a control token, the unknown
                continue
            text = self._decode([i])
            if text and text.strip() == text and text.isascii() and text.isprintable():
                twice = self._decode([i, i])
                if twice.startswith(text) and len(twice) > len(text):
                    return i, text
        return None, ""


class _TokenBytes:
    """The bytes a token stands for, where a tokenizer cuts characters into bytes."""

    def __init__(self, described: dict[str, Any]) -> None:
        kinds = set(_decoder_kinds(described.get("decoder")))
        self._letters = _byte_letters() if "ByteLevel" in kinds else {}
        self._fallback = "ByteFallback" in kinds
        self._specials = {t["id"] for t in described.get("added_tokens", []) if t["special"]}
        vocab = described["model"].get("vocab", {})
        pairs = (
            vocab.items() if isinstance(vocab, dict) else ((v[0], i) for i, v in enumerate(vocab))
        )
        self._pieces = {i: piece for piece, i in pairs}
        self._pieces |= {t["id"]: t["content"] for t in described.get("added_tokens", [])}

    def last(self, ids: Sequence[int], count: int) -> bytes:
        """The last `count` bytes of the text of `ids`, or more."""
        if not (self._letters or self._fallback):
            return b""
        found = b""
        for i in reversed(ids):
            found = self._of(int(i)) + found
            if len(found) >= count:
                break
        return found

    def _of(self, token: int) -> bytes:
        piece = self._pieces.get(token, "")
        if token in self._specials:
            return b""
        if self._letters and all(letter in self._letters for letter in piece):
            return bytes(self._letters[letter] for letter in piece)
        byte = _FALLBACK.fullmatch(piece) if self._fallback else None
        return bytes([int(byte[1], 16)]) if byte else piece.encode()


def _decoder_kinds(decoder: dict[str, Any] | None) -> Iterable[str]:
    if decoder:
        yield decoder["type"]
        for one in decoder.get("decoders", []):
            yield from _decoder_kinds(one)


def _byte_letters() -> dict[str, int]:
    """The visible letter that byte-level tokenizers write for each byte (GPT-2's table)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {chr(byte): byte for byte in shown}
    letters |= {chr(256 + i): byte for i, byte in enumerate(hidden)}
    assert letters.keys() == set(ByteLevel.alphabet())
    return letters


def _unfinished(text: bytes) -> bool:
    """Whether `text` ends within a character: a lead byte with too few bytes behind it."""
    for back in range(1, min(3, len(text)) + 1):
        byte = text[-back]
        if byte & 0xC0 != 0x80:
            needs = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC2 else 1
            return byte < 0xF5 and needs > back
    return False
