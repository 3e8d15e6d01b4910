"""Which replica gets a request: the one that has its chain's KV, as long as it keeps up.

Every chain prefers the replicas in an order of its own (rendezvous hashing), the same in every
router and process. So its requests meet each other, a lost replica moves its own chains only, and
nothing is remembered. Where the preferred replica has far more to do than another, a request goes
elsewhere: that costs the chain's prefill once, and waiting would cost more (bounded load, after
arXiv 1608.01350). Serve's own `ConsistentHashRouter` gives up affinity only when a replica refuses,
which ours, that queue by themselves, never do.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from ray.serve.request_router import FIFOMixin, PendingRequest, RequestRouter, RunningReplica

from services import pools

_FACTOR, _SLACK = 2, 16
"""A queue is too long beyond `_FACTOR` times the shortest and `_SLACK` requests: an engine serves
so many in the same steps, and the candidates of one question alone do not fill it."""

_PATIENCE = 3
"""Times the chosen replica is asked for its queue, each longer than before, until others are."""


class ChainAffinity(FIFOMixin, RequestRouter):  # type: ignore[misc]
    """Serve's request router for `handle.options(session_id=CHAIN)`.

    Requests without a chain go where the queue is shortest, and those with a replica's name in its
    place to that one.
    """

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Serve tells whenever a replica has come or gone."""
        names = [one.replica_id.unique_id for one in replicas]
        pools.tell(self._deployment_id.app_name, self._deployment_id.name, names)
        super().update_replicas(replicas)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Replicas to ask, one rank after the other; called again while none has accepted."""
        if pending_request is None or not candidate_replicas:
            return [candidate_replicas]
        # Without it, Serve would ask again at once, for ever, where all refuse.
        pending_request.routing_context.should_backoff = True
        if not pending_request.metadata.session_id:
            return [random.sample(candidate_replicas, len(candidate_replicas))]
        replicas = {one.replica_id.unique_id: one for one in candidate_replicas}
        if pending_request.metadata.session_id in replicas:
            return [[replicas[pending_request.metadata.session_id]]] * _PATIENCE
        queues = {
            name: self.replica_queue_len_cache.get(one.replica_id) or 0
            for name, one in replicas.items()
        }
        first, *others = ranked(pending_request.metadata.session_id, queues)
        return [[replicas[first]]] * _PATIENCE + [[replicas[name]] for name in others]

    def _get_pending_request_matching_metadata(self, request_metadata: Any = None) -> Any:
        """The waiting request for which a replica was chosen.

        Serve would look for the request's internal id. All calls made while one HTTP request is
        served share that id, and so the replica chosen for one chain could go to another's request.
        """
        if request_metadata is None:
            return None
        for pending in self._pending_requests_to_fulfill:
            same = pending.metadata.session_id == request_metadata.session_id
            if same and not pending.future.done():
                return pending
        return None


def ranked(chain: str, queues: Mapping[str, int]) -> list[str]:
    """The names in `queues` as a chain prefers them; one whose queue is too long comes last."""
    bound = _FACTOR * min(queues.values()) + _SLACK
    return sorted(preferred(chain, list(queues)), key=lambda name: queues[name] > bound)


def preferred(chain: str, replicas: Sequence[str]) -> list[str]:
    """Rendezvous hashing: without one replica, the order of the others is the same."""
    return sorted(
        replicas, key=lambda name: blake2b(f"{chain}\n{name}".encode(), digest_size=8).digest()
    )
