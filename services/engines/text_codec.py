"""Text to token ids and back, piece by piece, so that no character is lost or doubled.

A tokenizer is made for whole texts. A chain is written in pieces, by two models: so a piece is
encoded without the space some tokenizers put before a text, decoded without losing the space some
strip there, and never ends within a character of several bytes. How two models share a chain by
these rules is told in docs/engines.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from atts_core.answers import CLOSING, OPENING
from atts_core.errors import BadInput
from atts_core.types import History, Ids, Segment, as_ids

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
        described = json.loads(backend.to_str())
        parts = ("added_tokens", "normalizer", "pre_tokenizer", "model", "decoder")
        text = json.dumps([described.get(part) for part in parts], sort_keys=True)
        self.vocabulary = hashlib.sha256(text.encode()).hexdigest()[:16]
        _keep_text_as_written(described)
        self._bytes = _TokenBytes(described)
        # A copy of our own: the original changes its state with every call, and what a model
        # writes must never turn into a control token.
        self._tokenizer = Tokenizer.from_str(json.dumps(described))
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._anchor, self._anchor_text = self._find_anchor()

    def encode(self, text: str) -> Ids:
        """Ids of `text` as the continuation of another text; specials in it are plain text."""
        return as_ids(self._exactly(text) if text else [])

    def writes(self, text: str) -> bool:
        """Whether there are ids for exactly this text."""
        return self.decode(self.encode(text)) == text

    def tail_ids(self, history: History) -> Ids:
        """What another wrote after `history.ids`, as this model reads it."""
        begins = history.begins
        return self.encode(self.after(history.ids, history.tail) if begins else history.tail)

    def rated(self, history: History, segment: Segment) -> Ids:
        """A segment as this model reads it after `history`: its own ids where they serve."""
        begins = history.begins and not history.tail
        text = self.after(history.ids, segment.text) if begins else segment.text
        if segment.vocabulary == self.vocabulary and text == segment.text:
            return as_ids(segment.ids)
        return self.encode(text)

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

    def after(self, prompt: Ids, text: str) -> str:
        """A chain's first `text` without a `<think>`, and its line end, that the prompt ends in."""
        bare = text.lstrip()
        if not bare.startswith(OPENING):
            return text
        shown = self.shows(prompt[-_WINDOW:])
        if not shown.rstrip().endswith(OPENING):
            return text
        return bare[len(OPENING) :].removeprefix(shown[len(shown.rstrip()) :])

    def shows(self, ids: Ids) -> str:
        """The text of `ids` with the special tokens in it."""
        return str(self._tokenizer.decode([int(i) for i in ids], skip_special_tokens=False))

    def _exactly(self, text: str) -> list[int]:
        """Ids that decode to `text`; the tokenizer's own where it has none for some character."""
        plain = self._encode(text)
        if self.decode(plain) == text:
            return plain
        for anchor in _ANCHORS:
            head, both = self._encode(anchor), self._encode(anchor + text)
            rest = both[len(head) :]
            if both[: len(head)] == head and self.decode(rest) == text:
                return rest
        # Something in it does not come back: a look-alike of a byte or control token, a blank that
        # an added token swallows, the sign that stands for a space.
        if len(text) > 1:
            middle = len(text) // 2
            return self._exactly(text[:middle]) + self._exactly(text[middle:])
        return self._bytes.of_character(text) or plain

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
        bytes_ = ((_FALLBACK.fullmatch(piece), i) for i, piece in self._pieces.items())
        self._tokens = {int(found[1], 16): i for found, i in bytes_ if found and self._fallback}

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

    def of_character(self, character: str) -> list[int]:
        """The byte tokens that spell a character; empty where the tokenizer lacks one."""
        spelt = [self._tokens.get(byte) for byte in character.encode()]
        return [token for token in spelt if token is not None] if None not in spelt else []

    def _of(self, token: int) -> bytes:
        piece = self._pieces.get(token, "")
        if token in self._specials:
            return b""
        if self._letters and all(letter in self._letters for letter in piece):
            return bytes(self._letters[letter] for letter in piece)
        byte = _FALLBACK.fullmatch(piece) if self._fallback else None
        return bytes([int(byte[1], 16)]) if byte else piece.encode()


def _keep_text_as_written(described: dict[str, Any]) -> None:
    """Change a tokenizer so that a text comes out as it went in.

    `<think>` and `</think>` are text between models, also where one calls them special; and what
    one wrote as two code points is not what the other would have composed of them.
    """
    for token in described.get("added_tokens", []):
        if token["content"] in (OPENING, CLOSING):
            token["special"] = False
    normalizer = described.get("normalizer")
    if normalizer is None:
        return
    if normalizer["type"] == "NFC":
        described["normalizer"] = None
    elif normalizer["type"] == "Sequence":
        parts = normalizer["normalizers"]
        normalizer["normalizers"] = [part for part in parts if part["type"] != "NFC"]


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
