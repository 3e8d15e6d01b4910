"""Stop strings, token by token."""

from __future__ import annotations

import pytest
from tiny import wrapped

from services.engines import stops
from services.engines.stops import StopStrings
from services.engines.text_codec import TextCodec


@pytest.mark.parametrize("known", [1, 8192])
def test_a_stop_is_found_however_few_tokens_are_remembered(
    known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stops, "_KNOWN", known)
    codec = TextCodec(wrapped("letters"))
    sought = StopStrings(codec, ("river", "zz"))
    ids = codec.encode("said the river, and rivers, to the stone").tolist()
    ends = [place for place in range(1, len(ids) + 1) if sought.end(ids[:place])]
    assert codec.decode(ids[: ends[0]]) == "said the river"
    assert len(sought._may) <= known
