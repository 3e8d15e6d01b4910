"""What a dashboard can be narrowed to, and the label matchers that do it."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import DatasourceVariable, QueryVariable
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")

APPLICATION = 'namespace=~"$namespace",application=~"$application"'
"""Matchers of what a replica tells of itself."""
RUNS = f'{APPLICATION},model_name=~"$model",policy=~"$policy"'
"""Matchers of what is counted for each run."""
ENGINES = f'{APPLICATION},role=~"$role",engine_model=~"$engine"'
"""Matchers of what an engine tells of itself."""


def datasource() -> DatasourceVariable:
    return DatasourceVariable("datasource").label("Data source").type("prometheus")


def _label(name: str, shown: str, metric: str, label: str, about: str) -> QueryVariable:
    """A choice of the values that `label` has on `metric`; everything, unless one chooses."""
    return (
        QueryVariable(name)
        .label(shown)
        .description(about)
        .datasource(SOURCE)
        .query(f"label_values({metric}, {label})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def common() -> list[DatasourceVariable | QueryVariable]:
    within = '{namespace=~"$namespace"}'
    return [
        datasource(),
        _label(
            "namespace",
            "Namespace",
            "ray_atts_router_up",
            "namespace",
            "Kubernetes' namespace; elsewhere there is none",
        ),
        _label(
            "application",
            "Application",
            f"ray_atts_router_up{within}",
            "application",
            "Ray Serve's application",
        ),
    ]


def of_runs() -> list[QueryVariable]:
    metric = "ray_atts_request_success_total"
    return [
        _label("model", "Model", f"{metric}{{{APPLICATION}}}", "model_name", "the served model"),
        _label(
            "policy",
            "Policy",
            f'{metric}{{{APPLICATION},model_name=~"$model"}}',
            "policy",
            "how the two models answer together",
        ),
    ]


def slowness() -> QueryVariable:
    return _label(
        "latency",
        "Latency of the run",
        f"ray_atts_request_stage_by_latency_seconds_total{{{RUNS}}}",
        "latency",
        "only runs that took so long in all",
    )


def of_engines() -> list[QueryVariable]:
    metric = "ray_atts_engine_up"
    return [
        _label("role", "Role", f"{metric}{{{APPLICATION}}}", "role", "draft or target"),
        _label(
            "engine",
            "Model",
            f'{metric}{{{APPLICATION},role=~"$role"}}',
            "engine_model",
            "the model that the engine runs",
        ),
    ]
