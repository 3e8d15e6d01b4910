"""Why an application did not start: Serve says which deployment failed, its reason lies deeper."""

from __future__ import annotations

import re

from ray import serve

from atts_core.errors import BadInput
from services.pair import require_common_answers

_OURS = re.compile(r"^atts_core\.errors\.BadInput: (.+)$", re.MULTILINE)
_SECONDS = 10.0


def raise_reason(application: str) -> None:
    """Raise `BadInput` where the settings are the reason; otherwise return.

    A model that cannot be served says so in its deployment's message. Where both models are up,
    the router may have refused the pair: Serve keeps that in a log, so the pair is asked again.
    """
    deployments = serve.status().applications[application].deployments
    for name, deployment in deployments.items():
        found = _OURS.search(deployment.message)
        if found:
            raise BadInput(f"{name}: {found[1]}", field=name.lower())
    if all(deployments[name].status == "HEALTHY" for name in ("Draft", "Target")):
        draft, target = (
            serve.get_deployment_handle(name, application)
            .capabilities.remote()
            .result(timeout_s=_SECONDS)
            for name in ("Draft", "Target")
        )
        require_common_answers(draft, target)
