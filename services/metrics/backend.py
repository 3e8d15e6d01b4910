"""Where metrics go: Ray's agent of the node, or a Prometheus registry of this process.

A registry behind a load balancer would show one replica at random. Ray exports each process'
values through its node's agent, tagged with application, deployment and replica, so that what a
scrape shows does not depend on who answered it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import prometheus_client

from services.metrics.catalogue import METRICS, Metric

PREFIX = "ray_"
"""Ray puts it before every name; so rules and dashboards hold for both."""
NOTHING = 5e-324
"""The smallest number above 0: it makes a counter visible, and changes no sum."""


class Backend(Protocol):
    """Takes values; `labels` in the order of the metric's own."""

    def count(self, metric: Metric, labels: tuple[str, ...], amount: float) -> None: ...
    def observe(self, metric: Metric, labels: tuple[str, ...], values: Sequence[float]) -> None: ...
    def set(self, metric: Metric, labels: tuple[str, ...], value: float) -> None: ...


class RayBackend:
    """Ray's metrics, for replicas of a deployment. A metric is made at its first value."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def count(self, metric: Metric, labels: tuple[str, ...], amount: float) -> None:
        # Ray refuses 0.
        self._of(metric).inc(max(amount, NOTHING), self._tags(metric, labels))

    def observe(self, metric: Metric, labels: tuple[str, ...], values: Sequence[float]) -> None:
        made, tags = self._of(metric), self._tags(metric, labels)
        for value in values:
            made.observe(value, tags)

    def set(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        self._of(metric).set(value, self._tags(metric, labels))

    def _tags(self, metric: Metric, labels: tuple[str, ...]) -> dict[str, str]:
        return dict(zip(metric.labels, labels, strict=True))

    def _of(self, metric: Metric) -> Any:
        made = self._made.get(metric.name)
        if made is None:
            from ray.serve import metrics

            kind = getattr(metrics, metric.kind.capitalize())
            how = {"boundaries": list(metric.buckets)} if metric.buckets else {}
            made = self._made[metric.name] = kind(
                metric.name, description=metric.help, tag_keys=metric.labels, **how
            )
        return made


class RegistryBackend:
    """A `prometheus_client` registry: for one process without Ray, and for tests."""

    def __init__(self, registry: prometheus_client.CollectorRegistry, **fixed: str) -> None:
        """`fixed` labels stand for those that Ray adds."""
        self._fixed = fixed
        self._made: dict[str, Any] = {}
        for metric in METRICS:
            kind = getattr(prometheus_client, metric.kind.capitalize())
            how = {"buckets": metric.buckets} if metric.buckets else {}
            labels = (*metric.labels, *fixed)
            self._made[metric.name] = kind(
                PREFIX + metric.name, metric.help, labels, registry=registry, **how
            )

    def count(self, metric: Metric, labels: tuple[str, ...], amount: float) -> None:
        self._of(metric, labels).inc(amount)

    def observe(self, metric: Metric, labels: tuple[str, ...], values: Sequence[float]) -> None:
        made = self._of(metric, labels)
        for value in values:
            made.observe(value)

    def set(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        self._of(metric, labels).set(value)

    def _of(self, metric: Metric, labels: tuple[str, ...]) -> Any:
        made = self._made[metric.name]
        both = (*labels, *self._fixed.values())
        return made.labels(*both) if both else made
