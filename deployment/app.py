"""The composition root: settings and the deployments' options become one Serve application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application, Deployment
from ray.serve.config import RequestRouterConfig

from atts_core.settings import validated
from services.affinity import ChainAffinity
from services.model_server import ModelServer
from services.router import Router
from services.serve_config import located
from services.settings import Settings
from services.store_server import StoreServer

Options = Mapping[str, Mapping[str, Any]]

# A chain's KV is on the replica that its last request was on.
BY_CHAIN = RequestRouterConfig(request_router_class=ChainAffinity)

DEPLOYMENTS: Mapping[str, Deployment] = {
    # Engines queue and batch by themselves: Serve must hand them all there is, not five at a time.
    "Draft": serve.deployment(
        ModelServer, name="Draft", max_ongoing_requests=4096, request_router_config=BY_CHAIN
    ),
    "Target": serve.deployment(
        ModelServer, name="Target", max_ongoing_requests=4096, request_router_config=BY_CHAIN
    ),
    # A few calls a router at a time, and one that waits for the database blocks no other.
    "CalibrationStore": serve.deployment(
        StoreServer, name="CalibrationStore", max_ongoing_requests=1024
    ),
    # The router refuses by itself, in OpenAI's shape, what is beyond `limits.max_running`.
    "Router": serve.deployment(Router, name="Router", max_ongoing_requests=4096),
}
"""Every deployment by name, with what does not depend on where it runs."""


def build(args: Mapping[str, Any]) -> Application:
    """The application that `args` (the fields of `Settings`) describe: a configuration's
    `import_path`.

    Serve calls it with this one argument, refuses a function of more, and then applies the
    `deployments` of the configuration itself. Raises `BadInput` for what is not allowed.
    """
    return with_options(args)


def with_options(args: Mapping[str, Any], options: Options | None = None) -> Application:
    """`build`, and the options of each deployment by its name, for a Serve that was given no
    configuration file. Raises `BadInput` for what is not allowed."""
    settings = validated(Settings, located(args))
    both: Mapping[str, Any] = {
        "method": settings.method,
        "metrics": settings.metrics,
        "logs": settings.logs,
        "tracing": settings.tracing,
    }
    draft = _deployment("Draft", options).bind(settings.draft, **both)
    target = _deployment("Target", options).bind(settings.target, judges=True, **both)
    store = _deployment("CalibrationStore", options).bind(
        settings.store,
        settings.store.windows * settings.calibration.window,
        settings.runs,
        settings.logs,
    )
    application: Application = _deployment("Router", options).bind(settings, draft, target, store)
    return application


def _deployment(name: str, options: Options | None) -> Deployment:
    wanted = (options or {}).get(name)
    return DEPLOYMENTS[name].options(**wanted) if wanted else DEPLOYMENTS[name]
