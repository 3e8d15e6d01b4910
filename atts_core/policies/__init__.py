"""Policies by name: each moves candidates from their first token to their end.

They share candidates, engines, stopping, answers and votes, so that they differ in nothing else.
Each module names its source, and where it deviates from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_args

from atts_core.engine import Engine
from atts_core.errors import PolicyLacks
from atts_core.policies.atts import ATTS
from atts_core.policies.atts_sync import ATTS_SYNC
from atts_core.policies.best_of_n import BEST_OF_N
from atts_core.policies.deepconf_online import DEEPCONF_ONLINE
from atts_core.policies.lone import DRAFT_ONLY, TARGET_ONLY
from atts_core.policies.policy import Policy
from atts_core.policies.random_takeover import RANDOM_TAKEOVER
from atts_core.policies.self_consistency import SELF_CONSISTENCY
from atts_core.policies.specreason import SPECREASON
from atts_core.policies.speculative_thinking import SPECULATIVE_THINKING
from atts_core.settings import Method
from atts_core.types import PolicyName

POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        policy.name: policy
        for policy in (
            ATTS,
            ATTS_SYNC,
            RANDOM_TAKEOVER,
            DRAFT_ONLY,
            TARGET_ONLY,
            SELF_CONSISTENCY,
            BEST_OF_N,
            SPECREASON,
            SPECULATIVE_THINKING,
            DEEPCONF_ONLINE,
        )
    }
)

assert set(POLICIES) == set(get_args(PolicyName))


def settle(base: Method, asked: Mapping[str, Any]) -> Method:
    """`base` with what is asked for: a request's word counts most, then the policy's defaults.

    Where `base` itself names the policy, what it sets beside it counts more than the defaults.
    """
    name: str = asked.get("policy", base.policy)
    kept = base.model_fields_set if name == base.policy else frozenset()
    own = {field: value for field, value in POLICIES[name].defaults.items() if field not in kept}
    return base.model_copy(update={**own, **asked})


async def require(policy: Policy, draft: Engine, target: Engine) -> None:
    """`PolicyLacks`, naming what is missing, where the two models cannot serve the policy."""
    missing = await policy.lacks(draft, target)
    if missing is not None:
        raise PolicyLacks(
            f"atts.policy: {policy.name} cannot be served here: {missing}", field="atts.policy"
        )
