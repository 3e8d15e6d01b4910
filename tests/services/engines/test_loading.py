"""One place loads every engine, and says what to install where it cannot."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from atts_core.errors import BadInput
from services.engines import loading
from services.engines.settings import VllmSettings


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_an_engine_that_is_not_installed_says_how_to_install_it() -> None:
    with pytest.raises(BadInput, match=r"pip install 'atts\[vllm\]'") as caught:
        loading.load(VllmSettings(engine="vllm", model="some/model"))
    assert caught.value.field == "engine"
