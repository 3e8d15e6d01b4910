"""Which of vLLM's answers count as a score, with and without Model Runner V2."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from atts_core.types import as_ids

pytest.importorskip("vllm", reason="vLLM is not installed here: make test-vllm")
from vllm import SamplingParams
from vllm.logprobs import FlatLogprobs
from vllm.outputs import RequestOutput
from vllm.v1.metrics.stats import RequestStateStats

from services.engines import vllm_scoring
from services.engines.vllm_scoring import AllRows, SegmentRows

pytestmark = pytest.mark.vllm

IDS = as_ids([5, 6, 7, 8, 9])
START = 3


def output(**found: Any) -> RequestOutput:
    given = {"prompt_logprobs": None, "num_cached_tokens": 0, "metrics": RequestStateStats()}
    return RequestOutput("r", None, IDS.tolist(), outputs=[], finished=True, **(given | found))


def rows(values: list[float], ids: list[int] | None = None) -> FlatLogprobs:
    made = FlatLogprobs()
    made.append(None)
    for token, value in zip(ids or IDS[1:].tolist(), values, strict=True):
        made.append_fast([token], [value], iter([1]), [None])
    return made


def test_the_runner_decides_the_way() -> None:
    assert isinstance(vllm_scoring.choose(SimpleNamespace(use_v2_model_runner=False)), AllRows)
    assert isinstance(vllm_scoring.choose(SimpleNamespace(use_v2_model_runner=True)), SegmentRows)
    assert isinstance(vllm_scoring.choose(SimpleNamespace()), AllRows)


def test_all_rows_are_the_last_ones() -> None:
    read = AllRows().read(output(prompt_logprobs=rows([-1, -2, -3, -4])), IDS, START)
    assert read is not None
    assert read.tolist() == [-3, -4]


@pytest.mark.parametrize(
    "found",
    [
        {"prompt_logprobs": None},
        {"num_cached_tokens": None},
        {"num_cached_tokens": START},  # the row that predicts the first token was not computed
        {"num_cached_tokens": 1, "metrics": RequestStateStats(num_preemptions=1)},
        {"num_cached_tokens": 1, "metrics": None},
        {"prompt_logprobs": rows([-1, -2, -3, -4], [6, 7, 0, 9])},  # memory nobody wrote
        {"prompt_logprobs": rows([-1, -2, 1e12, -4])},
        {"prompt_logprobs": rows([-1, -2, float("nan"), -4])},
        {"prompt_logprobs": rows([-1, -2, -3], [7, 8, 9])},
    ],
)
def test_all_rows_that_may_not_have_been_computed_are_none(found: dict[str, Any]) -> None:
    given = {"prompt_logprobs": rows([-1, -2, -3, -4])} | found
    assert AllRows().read(output(**given), IDS, START) is None


def test_a_row_is_used_up_to_the_last_token_that_may_be_cached() -> None:
    given = {"prompt_logprobs": rows([-1, -2, -3, -4]), "num_cached_tokens": START - 1}
    assert AllRows().read(output(**given), IDS, START) is not None


def test_segment_rows_name_the_segment_and_nothing_else() -> None:
    params = SegmentRows().params(IDS, START, fresh=False)
    assert params.prompt_logprob_start == START - 1
    assert params.prompt_logprob_token_ids.tolist() == [[8], [9]]
    assert params.skip_reading_prefix_cache is False
    assert isinstance(params, SamplingParams)


def test_segment_rows_that_are_missing_are_none() -> None:
    scoring = SegmentRows()
    read = scoring.read(output(prompt_token_id_logprobs=np.float32([[-3], [-4]])), IDS, START)
    assert read is not None
    assert read.tolist() == [-3, -4]
    for missing in (None, np.float32([[-4]]), np.float32([[np.nan], [-4]])):
        assert scoring.read(output(prompt_token_id_logprobs=missing), IDS, START) is None


@pytest.mark.parametrize("scoring", [AllRows(), SegmentRows()])
def test_asked_anew_nothing_is_read_from_the_cache(scoring: vllm_scoring.Scoring) -> None:
    assert scoring.params(IDS, START, fresh=True).skip_reading_prefix_cache is True
    assert scoring.params(IDS, START, fresh=False).skip_reading_prefix_cache is False
