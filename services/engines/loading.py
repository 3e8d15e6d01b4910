"""From an engine's settings to the engine: the one place that knows every engine."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Protocol

from atts_core.engine import Engine
from atts_core.errors import BadInput
from services.engines.settings import HttpSettings, Kind, TransformersSettings, VllmSettings
from services.model_cache import require_room


class ServedEngine(Engine, Protocol):
    """An engine with what its owner needs beside the two verbs."""

    def status(self) -> dict[str, Any]:
        """Running and waiting requests, KV in use, totals since the start."""
        ...

    def check(self) -> None:
        """Raise EngineUnavailable when the engine has died or was closed."""
        ...

    def close(self) -> None:
        """Let go of everything; requests under way fail with EngineUnavailable."""
        ...


def load(settings: Kind) -> ServedEngine:
    """Load the engine and let it prove what it can do.

    Raises BadInput where the model cannot be served, its files find no room, or what the engine
    needs is not installed.
    """
    if not isinstance(settings, HttpSettings):
        require_room(settings.model)
    # Imported here: who builds the application, or uses one engine, needs none of the others.
    match settings:
        case TransformersSettings():
            from services.engines.transformers_engine import TransformersEngine

            return TransformersEngine.load(settings)
        case VllmSettings():
            if find_spec("vllm") is None:
                raise BadInput(
                    "the engine vllm is not installed here: install with pip install 'atts[vllm]'",
                    field="engine",
                )
            from services.engines.vllm_engine import VllmEngine

            return VllmEngine.load(settings)
        case HttpSettings():
            from services.engines.http_engine import HttpEngine

            return HttpEngine.load(settings)
