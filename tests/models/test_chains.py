import math

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.arithmetic import sampling
from models.arithmetic.chains import Writer, prompt, right_lines, score, segments, solved
from models.arithmetic.problems import held_out
from models.arithmetic.tokenizer import END, END_ID, IDS, ids_of

PROBLEMS = held_out(3, seed=8, steps=(2, 4))
SOLUTIONS = [list(ids_of(problem.solution + END)) for problem in PROBLEMS]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(IDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def test_solutions_are_solved_and_their_lines_right():
    assert solved(PROBLEMS, SOLUTIONS).rate == 1.0
    assert right_lines(PROBLEMS, SOLUTIONS).rate == 1.0
    assert solved(PROBLEMS, SOLUTIONS[::-1]).right < 3


def test_segments_join_to_the_chain_a_line_each():
    cut = segments(SOLUTIONS[0])
    assert [token for segment in cut for token in segment] == SOLUTIONS[0]
    assert len(cut) == len(PROBLEMS[0].lines)


def test_padding_changes_neither_samples_nor_scores(model):
    prefixes = [prompt(problem) for problem in PROBLEMS]
    together = sampling.sample(model, prefixes, most=6, temperature=1e-6, seed=0)
    single = [sampling.sample(model, [p], most=6, temperature=1e-6, seed=0)[0] for p in prefixes]
    assert together == single
    nats = sampling.token_nll(model, SOLUTIONS)
    for ids, each in zip(SOLUTIONS, nats, strict=True):
        assert each == pytest.approx(sampling.token_nll(model, [ids])[0], abs=1e-4)
        assert sum(each[1:]) / len(ids) == pytest.approx(math.log(len(IDS)), rel=0.1)


def test_sampling_stops_behind_an_end(model):
    written = sampling.sample(
        model, [prompt(PROBLEMS[0])], most=9, temperature=1.0, seed=1, ends=range(len(IDS))
    )
    assert [len(ids) for ids in written] == [1]
    assert len(sampling.sample(model, [[1]], most=4, temperature=1.0, seed=1, ends=())[0]) == 4


def test_scored_segments_agree_with_scoring_each_behind_its_prefix(model):
    target = Writer(model, 1.0)
    chain = score(target, PROBLEMS[:1], SOLUTIONS[:1])[0]
    prefix = prompt(PROBLEMS[0])
    for segment, nll, each in zip(chain.segments, chain.nll, chain.grades, strict=True):
        assert each.right
        assert target.mean_nll([prefix], [segment])[0] == pytest.approx(nll, abs=1e-4)
        prefix = prefix + segment
    assert chain.segments[-1][-1] == END_ID
