"""Stop strings: found the moment a token completes one, at the price of a dictionary look-up."""

from __future__ import annotations

from services.engines.text_codec import TextCodec

_KNOWN = 8192
"""Tokens that are remembered at most: the common ones are soon learnt anew."""


class StopStrings:
    """Tells which token completes one of `stops`, even where it spans several tokens.

    Most tokens cannot complete any: their own text lacks every stop string's last character.
    Only after the others the text is decoded and searched.
    """

    def __init__(self, codec: TextCodec, stops: tuple[str, ...]) -> None:
        self._codec = codec
        self._stops = stops
        # A character may take four tokens, and a stop string may start within a token.
        self._window = 4 * max(map(len, stops)) + 4
        self._may: dict[int, bool] = {}

    def end(self, written: list[int]) -> bool:
        """Whether the last of `written` completes a stop string."""
        may = self._may.get(written[-1])
        if may is None:
            if len(self._may) >= _KNOWN:
                self._may.clear()
            may = self._may[written[-1]] = self._may_complete(written[-1])
        if not may:
            return False
        text = self._codec.decode(written[-self._window :])
        return any(stop in text for stop in self._stops)

    def _may_complete(self, token: int) -> bool:
        # � stands for part of a character: which one is not known from one token.
        text = self._codec.decode([token])
        return "\ufffd" in text or any(stop[-1] in text for stop in self._stops)
