from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from models.arithmetic import tokenizer
from models.arithmetic.problems import CUE, STEP_END, held_out

BUILT = tokenizer.build()
SHIPPED = Path(tokenizer.__file__).parent


@given(st.text())
def test_any_text_survives_the_round_trip(text):
    assert BUILT.decode(BUILT.encode(text)) == text


@pytest.mark.parametrize("text", ["", " ", "\n\n\n", "Check. Check.", "héllo 🌍", "Add Add 3. . "])
def test_awkward_texts_survive_the_round_trip(text):
    assert BUILT.decode(BUILT.encode(text)) == text


def test_fast_training_ids_equal_the_tokenizers():
    for problem in held_out(20, seed=3):
        text = f"<|user|>{problem.question}<|assistant|>{problem.solution}<|end|>"
        assert BUILT.encode(text) == list(tokenizer.ids_of(text))


def test_a_solution_costs_a_token_a_digit_and_one_a_phrase():
    line = "47 + 38 = 77 + 8 = 85" + STEP_END
    assert len(BUILT.encode(line)) == 9 + 4 + 1
    assert len(BUILT.encode(CUE)) == 1


def test_lines_encode_to_the_concatenation_of_their_encodings():
    problem = held_out(1, seed=4)[0]
    pieces = [line + STEP_END for line in problem.lines] + [CUE]
    assert BUILT.encode("".join(pieces)) == [i for piece in pieces for i in BUILT.encode(piece)]


def test_chat_template_opens_the_assistants_turn_and_ignores_system_messages():
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    text = BUILT.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == "<|user|>Hi<|assistant|>"
    ids = BUILT.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert list(ids) == BUILT.encode(text)


def test_specials_are_left_out_on_request():
    ids = BUILT.encode("<|user|>Hi<|assistant|>7<|end|>")
    assert BUILT.decode(ids, skip_special_tokens=True) == "Hi7"
    assert BUILT.decode(BUILT.encode(STEP_END + CUE), skip_special_tokens=True) == STEP_END + CUE


@pytest.mark.parametrize("model", ["draft", "target"])
def test_shipped_tokenizer_is_the_built_one(model):
    shipped = AutoTokenizer.from_pretrained(SHIPPED / model)
    text = f"<|user|>Ünï{held_out(1, seed=5)[0].solution}<|end|>"
    assert shipped.encode(text) == BUILT.encode(text)
    assert shipped.decode(shipped.encode(text)) == text
    assert shipped.get_vocab() == BUILT.get_vocab()
    assert shipped.chat_template == BUILT.chat_template
    assert (shipped.eos_token, shipped.pad_token) == ("<|end|>", "<|pad|>")
