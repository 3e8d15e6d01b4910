import itertools
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.arithmetic.muon import orthogonalize
from models.arithmetic.text import Noise
from models.arithmetic.train import RECIPES, Recipe, Run, Stage, batches, rate_share, train

TINY = Recipe(
    layers=1,
    width=16,
    heads=2,
    intermediate=32,
    stages=(Stage(2, (1, 2), 512, Noise()), Stage(10**9, (1, 3), 800, Noise())),
    rate=((0, 0.0), (2, 1.0), (4, 0.0)),
)


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    whole = Run(TINY, seed=1, device="cpu")
    train(whole, tmp_path / "whole")
    killed = Run(TINY, seed=1, device="cpu")
    for documents in batches(TINY, 1, 0):
        killed.advance(documents)
        if killed.step == 2:
            break
    killed.save(tmp_path / "killed")
    resumed = Run(TINY, seed=1, device="cpu")
    train(resumed, tmp_path / "killed")
    assert resumed.step == 4
    for one, other in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_an_exported_model_loads_with_its_tokenizer_and_settings(tmp_path):
    run = Run(TINY, seed=2, device="cpu")
    run.export(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    ids = AutoTokenizer.from_pretrained(tmp_path)("Start with 47.", return_tensors="pt").input_ids
    assert model.dtype == torch.bfloat16
    assert model(ids).logits.shape[-1] == model.config.vocab_size
    assert model.generation_config.temperature == TINY.temperature
    assert model.generation_config.eos_token_id == model.config.eos_token_id


def test_weights_with_a_narrower_feed_forward_part_are_adopted_as_they_compute():
    narrow = Run(TINY, seed=4, device="cpu")
    for documents in itertools.islice(batches(TINY, 4, 0), 3):
        narrow.advance(documents)
    wide = Run(replace(TINY, intermediate=48), seed=5, device="cpu")
    wide.adopt(narrow.model, 1)
    ids = torch.arange(4, 60)[None]
    with torch.inference_mode():
        torch.testing.assert_close(wide.model(ids).logits, narrow.model(ids).logits)
    assert wide.step == 1
    before = wide.model.model.layers[0].mlp.down_proj.weight[:, 32:].clone()
    for documents in itertools.islice(batches(TINY, 4, 1), 1):
        wide.advance(documents)
    assert not torch.equal(wide.model.model.layers[0].mlp.down_proj.weight[:, 32:], before)


@pytest.mark.parametrize(
    ("other", "named"),
    [({"layers": 2}, "num_hidden_layers: 2, not 1"), ({"intermediate": 64}, "intermediate_size")],
)
def test_weights_of_another_shape_are_not_adopted(other, named):
    with pytest.raises(ValueError, match=named):
        Run(TINY, 0, "cpu").adopt(Run(replace(TINY, **other), 0, "cpu").model, 3)


def test_batches_are_of_about_the_asked_size_and_the_same_from_any_start():
    stream = batches(RECIPES["draft"], 0, 0)
    first = [next(stream) for _ in range(6)]
    assert next(batches(RECIPES["draft"], 0, 5)) == first[5]
    for documents in first:
        assert sum(len(document.ids) for document in documents) == pytest.approx(4096, rel=0.1)


def test_loss_falls_within_a_few_steps():
    run = Run(replace(TINY, rate=((0, 0.0), (5, 1.0), (32, 1.0), (40, 0.0))), seed=3, device="cpu")
    losses = [run.advance(documents) for documents in itertools.islice(batches(TINY, 3, 0), 40)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_learning_rate_follows_its_straight_lines_to_zero():
    recipe = replace(TINY, rate=((0, 0.0), (100, 1.0), (800, 1.0), (1000, 0.0)))
    assert rate_share(recipe, 0) == pytest.approx(0.01)
    assert rate_share(recipe, 500) == 1.0
    assert rate_share(recipe, 899) == pytest.approx(0.5)
    assert rate_share(recipe, 999) == 0.0
    assert recipe.steps == 1000


def test_orthogonalized_matrices_have_singular_values_near_one():
    values = torch.linalg.svdvals(orthogonalize(torch.randn(3, 24, 16)))
    assert values.min() > 0.5
    assert values.max() < 1.3
