"""How a panel of ours looks: one function a kind, each with a description and a unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from grafana_foundation_sdk.builders import barchart, heatmap, stat, timeseries
from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    StackingConfig,
    VizLegendOptions,
    VizTooltipOptions,
)
from grafana_foundation_sdk.builders.dashboard import DashboardLink, ThresholdsConfig
from grafana_foundation_sdk.builders.heatmap import HeatmapColorOptions, YAxisConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deployment.grafana.variables import SOURCE

SECONDS, SHARE, NUMBER = "s", "percentunit", "short"
PER_SECOND, TOKENS_PER_SECOND = "reqps", "cps"

GREEN, ORANGE, RED = "green", "orange", "red"


@dataclass(frozen=True, slots=True)
class Query:
    """`legend` names its series; `over_range`: one value for all of the time shown."""

    expr: str
    legend: str = ""
    over_range: bool = False

    def build(self, ref: str, format: PromQueryFormat = PromQueryFormat.TIME_SERIES) -> Dataquery:
        query = Dataquery().expr(self.expr).legend_format(self.legend).format(format)
        query = query.ref_id(ref).datasource(SOURCE)
        return query.instant() if self.over_range else query.range()


AnyPanel = TypeVar("AnyPanel", stat.Panel, timeseries.Panel, barchart.Panel, heatmap.Panel)


def _panel(
    panel: AnyPanel,
    title: str,
    about: str,
    queries: tuple[Query, ...],
    width: int,
    height: int,
    format: PromQueryFormat = PromQueryFormat.TIME_SERIES,
) -> AnyPanel:
    panel = panel.title(title).description(about).datasource(SOURCE).span(width).height(height)
    for number, query in enumerate(queries):
        panel = panel.with_target(query.build(chr(ord("A") + number), format))
    return panel


def _limits(*steps: tuple[float | None, str]) -> ThresholdsConfig:
    return (
        ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([Threshold(value=value, color=color) for value, color in steps])
    )


def value(
    title: str,
    about: str,
    query: Query,
    unit: str,
    *,
    limits: tuple[tuple[float | None, str], ...] = ((None, GREEN),),
    decimals: int | None = None,
    link: DashboardLink | None = None,
    width: int = 4,
) -> stat.Panel:
    """One number, its colour by `limits`; where it is no sum over the range, its course behind."""
    panel = (
        _panel(stat.Panel(), title, about, (query,), width, 4)
        .unit(unit)
        .thresholds(_limits(*limits))
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE if query.over_range else BigValueGraphMode.AREA)
        .reduce_options(ReduceDataOptions().calcs(["lastNotNull"]))
        .no_value("–")
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    return panel.links([link]) if link else panel


def lines(
    title: str,
    about: str,
    *queries: Query,
    unit: str,
    stacked: bool = False,
    limit: float | None = None,
    highest: float | None = None,
    lowest: float | None = 0,
    width: int = 12,
    height: int = 8,
) -> timeseries.Panel:
    """Courses over time; `limit` is a dashed line, `stacked` fills them up on one another."""
    panel = (
        _panel(timeseries.Panel(), title, about, queries, width, height)
        .unit(unit)
        .line_width(1)
        .fill_opacity(60 if stacked else 8)
        .show_points(VisibilityMode.NEVER)
        .stacking(StackingConfig().mode(StackingMode.NORMAL if stacked else StackingMode.NONE))
        .legend(
            VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.TABLE)
            .placement(LegendPlacement.BOTTOM)
            .calcs(["lastNotNull", "max"])
        )
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if lowest is not None:
        panel = panel.min(lowest)
    if highest is not None:
        panel = panel.max(highest)
    if limit is not None:
        panel = panel.thresholds(_limits((None, GREEN), (limit, RED))).thresholds_style(
            GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        )
    return panel


def bars(
    title: str,
    about: str,
    *queries: Query,
    by: str,
    unit: str,
    stacked_by: str | None = None,
    width: int = 12,
    height: int = 8,
) -> barchart.Panel:
    """A bar for each value of the label `by`, over all of the time shown.

    Several queries stand side by side, named by their legends; one query is stacked by the values
    of the label `stacked_by`.
    """
    fields = [f"Value #{chr(ord('A') + number)}" for number in range(len(queries))]
    fields = ["Value"] if len(queries) == 1 else fields
    names = {field: query.legend for field, query in zip(fields, queries, strict=True)}
    steps: list[tuple[str, Mapping[str, Any]]] = (
        [
            (
                "groupingToMatrix",
                {
                    "columnField": stacked_by,
                    "rowField": by,
                    "valueField": "Value",
                    "emptyValue": "null",
                },
            ),
            ("organize", {"renameByName": {f"{by}\\{stacked_by}": by}}),
        ]
        if stacked_by
        else [
            ("joinByField", {"byField": by, "mode": "outer"}),
            ("organize", {"renameByName": names}),
            ("filterFieldsByName", {"include": {"names": [by, *names.values()]}}),
            ("sortBy", {"sort": [{"field": by}]}),
        ]
    )
    return (
        _panel(barchart.Panel(), title, about, queries, width, height, PromQueryFormat.TABLE)
        .transformations([DataTransformerConfig(id_val=id, options=how) for id, how in steps])
        .x_field(by)
        .unit(unit)
        .min(0)
        .fill_opacity(70)
        .stacking(StackingMode.NORMAL if stacked_by else StackingMode.NONE)
        .legend(
            VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .calcs([])
        )
        .tooltip(VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.NONE))
    )


def heat(
    title: str, about: str, query: Query, unit: str, *, width: int = 12, height: int = 8
) -> heatmap.Panel:
    """A histogram's buckets over time."""
    return (
        _panel(heatmap.Panel(), title, about, (query,), width, height, PromQueryFormat.HEATMAP)
        .calculate(False)
        .color(HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues"))
        .y_axis(YAxisConfig().unit(unit))
        .cell_gap(1)
        .mode(TooltipDisplayMode.SINGLE)
    )


def to_dashboard(uid: str, title: str) -> DashboardLink:
    """To another dashboard of ours, with the same time and choices."""
    kept = "${__url_time_range}&${__all_variables}"
    return DashboardLink(title).type(DashboardLinkType.LINK).url(f"/d/{uid}?{kept}")
