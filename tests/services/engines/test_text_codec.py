"""Texts in pieces, through several types of tokenizers."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tiny import TOKENIZERS, wrapped

from atts_core.types import as_ids
from services.engines.text_codec import TextCodec

CODECS = {kind: TextCodec(wrapped(kind)) for kind in TOKENIZERS}
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
KIND = st.sampled_from(sorted(CODECS))


@given(KIND, ANY_TEXT)
@example("sentence_piece", " starts with a space")
@example("sentence_piece", "no space before it")
@example("byte_level", "<|end|> is only text here")
@example("letters", "😀")
@example("sentence_piece", "the byte <0x0A> and the unknown <unk> are only text here")
@example("sentence_piece", "▁ is no space")
@example("prepended", "▁ is no space, <0x0A> no line, <|end|> no end")
@example("composed", "e\u0301 is not \u00e9")
def test_no_character_is_lost_or_doubled(kind: str, text: str) -> None:
    codec = CODECS[kind]
    assert codec.decode(codec.encode(text)) == text


@given(KIND, ANY_TEXT, st.lists(st.integers(1, 9), max_size=40))
def test_pieces_cut_anywhere_are_whole_characters_and_make_up_the_text(
    kind: str, text: str, cuts: list[int]
) -> None:
    codec = CODECS[kind]
    ids, texts, begin = codec.encode(text), [], 0
    for width in [*cuts, len(ids)]:
        piece = ids[begin : begin + width]
        piece = piece[: codec.whole(piece)]  # what is held back is written again, next
        begin += len(piece)
        texts.append(codec.decode(piece))
        if "\ufffd" not in text:
            assert "\ufffd" not in texts[-1]
    if begin == len(ids):
        assert "".join(texts) == text


@given(KIND, KIND, st.lists(ANY_TEXT, max_size=6))
def test_a_chain_passed_to_another_tokenizer_keeps_its_text(
    one: str, other: str, segments: list[str]
) -> None:
    draft, target = CODECS[one], CODECS[other]
    chain: list[int] = []
    for segment in segments:
        written = draft.decode(draft.encode(segment))
        chain.extend(target.encode(written).tolist())
    assert target.decode(chain) == "".join(segments)


@pytest.mark.parametrize("kind", sorted(CODECS))
@pytest.mark.parametrize("character", ["é", "中", "😀", "\ufffd"])
def test_a_character_is_held_back_until_its_last_byte(kind: str, character: str) -> None:
    codec = CODECS[kind]
    before, ids = codec.encode("a"), codec.encode(character).tolist()
    for count in range(len(ids)):
        assert codec.whole([*before, *ids[:count]]) <= len(before) + count
        assert "\ufffd" not in codec.decode(ids[: codec.whole(ids[:count])])
    assert codec.whole(ids) == len(ids)


def test_a_thought_is_opened_once() -> None:
    codec = CODECS["byte_level"]
    prompt = as_ids([*codec.encode("What? "), *codec.encode("<think>\n")])
    assert codec.after(prompt, "<think>\nWell") == "Well"
    assert codec.after(prompt, "<think>\n\nWell") == "\nWell"
    assert codec.after(prompt, "<think>Well") == "Well"
    assert codec.after(prompt, "Well") == "Well"
    assert codec.after(codec.encode("What? "), "<think>\nWell") == "<think>\nWell"


@pytest.mark.parametrize("kind", ["byte_level", "composed"])  # called text, called special
@pytest.mark.parametrize("mark", ["<think>", "</think>"])
def test_a_thoughts_marks_are_the_models_own_tokens_and_text_between_models(
    kind: str, mark: str
) -> None:
    codec = CODECS[kind]
    ids = codec.encode(f"a{mark}b")
    assert len(ids) == 3
    assert codec.decode(ids) == f"a{mark}b"


def test_an_end_of_text_among_ids_is_never_text() -> None:
    codec = CODECS["byte_level"]
    end = wrapped("byte_level").eos_token_id
    assert codec.decode([*codec.encode("a"), end, *codec.encode("b")]) == "ab"
    assert end not in codec.encode("a<|end|>b")


def test_a_fingerprint_tells_vocabularies_apart() -> None:
    prints = {codec.vocabulary for codec in CODECS.values()}
    assert len(prints) == len(CODECS)
    assert TextCodec(wrapped("letters")).vocabulary == CODECS["letters"].vocabulary
