"""The chart rendered by Helm's own library; `python -m tests.helm.rendering` writes the goldens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

PROJECT = Path(__file__).resolve().parents[2]
CHART = PROJECT / "helm" / "atts"
GOLDEN = Path(__file__).parent / "golden"
VALUE_SETS = [
    *sorted((CHART / "ci").glob("*.yaml")),
    *sorted((Path(__file__).parent / "values").glob("*.yaml")),
]
"""Those that ship, and what they leave out."""

Values = dict[str, Any]


def manifests(values: Values, chart: Path = CHART) -> dict[str, str]:
    """What Helm makes of the chart's templates, by template.

    Raises helm.HelmError where the schema or a template refuses the values.
    """
    with helm.Chart.load(chart) as loaded:
        loaded.validate_schema(values)
        return loaded.render(values, name="rel", namespace="default")


def objects(values: Values, chart: Path = CHART) -> list[dict[str, Any]]:
    """The Kubernetes objects, in the order of their templates' names."""
    texts = [text for name, text in sorted(manifests(values, chart).items()) if "NOTES" not in name]
    return [found for text in texts for found in yaml.safe_load_all(text) if found]


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [one for one in found if one["kind"] == kind]


def serve_config(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The Serve configuration inside the RayService."""
    (service,) = of_kind(found, "RayService")
    loaded: dict[str, Any] = yaml.safe_load(service["spec"]["serveConfigV2"])
    return loaded


def read(path: Path) -> Values:
    loaded: Values = yaml.safe_load(path.read_text())
    return loaded


class _Legible(yaml.SafeDumper):
    """Texts of several lines as blocks, and no anchors: what a person can compare."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = "|" if "\n" in text else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Legible.add_representer(str, _Legible.represent_text)


def golden_text(values: Values) -> str:
    """The objects as one YAML text that compares well; dashboards and rules by their names."""
    shown = [_abridged(one) for one in objects(values)]
    return yaml.dump_all(shown, Dumper=_Legible, sort_keys=True, width=100)


def _abridged(found: dict[str, Any]) -> dict[str, Any]:
    if found["kind"] == "ConfigMap":
        return {**found, "data": {name: "…" for name in found["data"]}}
    if found["kind"] == "PrometheusRule":
        groups = [{**group, "rules": "…"} for group in found["spec"]["groups"]]
        return {**found, "spec": {"groups": groups}}
    return found


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for value_set in VALUE_SETS:
        (GOLDEN / value_set.name).write_text(golden_text(read(value_set)))
