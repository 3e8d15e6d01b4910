"""`atts eval`: policies side by side on questions with known answers."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from atts_core.errors import AttsError, BadInput
from atts_core.settings import validated
from atts_core.types import Comparison
from services.evaluation import hosts, progress, recorded, report
from services.evaluation.about import about
from services.evaluation.asking import Evaluation
from services.evaluation.configuration import Asked, Wishes, kept, settings_of
from services.evaluation.results import WORDS, Results
from services.evaluation.table import markdown
from services.mathematics import mathematics
from services.settings import ComparisonSettings

Text = str | None


def evaluate(
    dataset: Annotated[
        Text, typer.Option(help="embedded[:n=200,seed=1], a .jsonl or .parquet file, math500, …")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(help="[NAME=]POLICY[:option=value,…]; once for each to compare"),
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE, an option of all policies")
    ] = None,
    candidates: Annotated[int | None, typer.Option(help="chains in parallel")] = None,
    turns: Annotated[int | None, typer.Option(help="draft segments a chain may have")] = None,
    seeds: Annotated[Text, typer.Option(help="how many (3), or which: 4,7 or 4-7")] = None,
    at_once: Annotated[int | None, typer.Option(help="questions in flight; default: 4")] = None,
    limit: Annotated[int | None, typer.Option(help="only the dataset's first questions")] = None,
    instruction: Annotated[Text, typer.Option(help="text behind every question")] = None,
    comparison: Annotated[
        Comparison | None, typer.Option(help="as what answers are compared; default: auto")
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(help="numbers that differ by less, relatively, are the same")
    ] = None,
    server: Annotated[
        Text, typer.Option(envvar="ATTS_SERVER", help="a running server; default: here")
    ] = None,
    config: Annotated[Text, typer.Option(help="the Serve configuration loaded here")] = None,
    out: Annotated[Path | None, typer.Option(help="the results folder; default: a new one")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="go on in --out, as it was asked there")
    ] = False,
    compare: Annotated[
        tuple[str, str] | None, typer.Option(help="two labels: whether the policies differ")
    ] = None,
    pictures: Annotated[bool, typer.Option("--plots/--no-plots", help="draw pictures")] = True,
    paste: Annotated[
        Path | None, typer.Option(help="put the figures between the marks of this document")
    ] = None,
    from_trace: Annotated[
        Path | None, typer.Option(help="grade this recorded run instead of asking")
    ] = None,
    questions: Annotated[Text, typer.Option(help="the questions of --from-trace: a file")] = None,
    json_: Annotated[bool, typer.Option("--json", help="the summary as JSON")] = False,
) -> None:
    """Ask policies the same questions; accuracy, latency and cost, with what the data can tell."""
    if from_trace is not None or questions is not None:
        _refuse_beside_a_trace(
            {
                "--dataset": dataset, "--policy": policy, "--option": option,
                "--candidates": candidates, "--turns": turns, "--seeds": seeds,
                "--at-once": at_once, "--limit": limit, "--instruction": instruction,
                "--config": config, "--out": out, "--resume": resume, "--compare": compare,
                "--paste": paste,
            }
        )  # fmt: skip
        found = _graded(from_trace, questions, comparison, tolerance)
        print(json.dumps(found, indent=2) if json_ else recorded.as_table(found))
        return
    if resume and out is None:
        raise BadInput("--resume: name the folder that is to go on: --out FOLDER", field="resume")
    given = {
        "dataset": dataset, "limit": limit, "instruction": instruction,
        "policy": policy or None, "option": option or None,
        "candidates": candidates, "turns": turns, "seeds": seeds, "at_once": at_once,
        "comparison": comparison, "tolerance": tolerance,
        "server": server and server.rstrip("/"), "config": config,
    }  # fmt: skip
    folder = out or Path("results") / datetime.now().strftime("eval-%Y%m%d-%H%M%S")
    there = kept(folder) if resume else None
    before = there["asked"] if there is not None else {}
    wishes = validated(Wishes, before | {k: v for k, v in given.items() if v is not None})
    asked = Asked.of(wishes)
    _require_known(compare, asked)
    found = asyncio.run(_evaluate(asked, folder, there, resume, compare, pictures, paste))
    print(json.dumps(found, indent=2) if json_ else _shown(found))


def _graded(
    trace: Path | None, questions: str | None, how: Comparison | None, tolerance: float | None
) -> dict[str, Any]:
    if trace is None or questions is None:
        missing = "--from-trace TRACE" if trace is None else "--questions FILE"
        raise BadInput(f"{missing} is missing: a trace and its questions go together")
    return asyncio.run(recorded.recorded(trace, questions, how or "auto", tolerance or 0.0))


def _refuse_beside_a_trace(given: Mapping[str, Any]) -> None:
    """`BadInput` that names the options by which nothing would be asked."""
    idle = [name for name, value in given.items() if value]
    if idle:
        raise BadInput(
            f"--from-trace: {', '.join(idle)} say nothing of a recorded run: it is graded as it "
            "is, with --questions, --comparison and --tolerance"
        )


def _require_known(compared: tuple[str, str] | None, asked: Asked) -> None:
    labels = [policy.label for policy in asked.plan.policies]
    for label in compared or ():
        if label not in labels:
            raise BadInput(
                f"--compare: found {label!r}; asked are: {', '.join(labels)}", field="compare"
            )


async def _evaluate(
    asked: Asked,
    folder: Path,
    there: Mapping[str, Any] | None,
    resume: bool,
    compared: tuple[str, str] | None,
    pictures: bool,
    document: Path | None,
) -> dict[str, Any]:
    host = await _identity(asked.wishes, there)
    configuration = asked.configuration(host)
    words = asked.wishes.model_dump(mode="json", exclude_unset=True)
    with Results(folder, {**configuration, WORDS: words}, resume=resume) as results:
        skipped: dict[str, str] = {}
        if asked.left(results):
            print(f"results go to {folder}", file=sys.stderr)
            skipped = await _ask(asked, results)
        found = report.write(
            asked, results, configuration, skipped, compared=compared, pictures=pictures
        )
        if document is not None:
            report.into_document(document, results, found)
    return found


async def _identity(wishes: Wishes, there: Mapping[str, Any] | None) -> dict[str, Any]:
    """Who answers: a server is asked, unless it is gone and its folder may be whole."""
    if wishes.server is None:
        return settings_of(Path(wishes.config), wishes.at_once)
    try:
        served = await hosts.served(wishes.server)
    except AttsError:
        if there is None or there["host"].get("server") != wishes.server:
            raise
        return dict(there["host"])
    return {"server": wishes.server, **{k: served[k] for k in ("pair", "version", "method")}}


async def _ask(asked: Asked, results: Results) -> dict[str, str]:
    """Ask what is left; labels that cannot be served, with the reason."""
    with progress.shown(asked.plan, results) as shown:
        async with _host(asked.wishes) as host, mathematics(ComparisonSettings()) as formulas:
            evaluation = Evaluation(
                asked.plan, host, results, formulas, on_row=shown.done, on_skip=shown.skip
            )
            try:
                await evaluation.run()
            except (AttsError, asyncio.CancelledError) as stopped:
                left = asked.left(results)
                print(
                    f"{left} questions are left: go on with --resume --out {results.folder}",
                    file=sys.stderr,
                )
                raise stopped
            return evaluation.skipped


@asynccontextmanager
async def _host(wishes: Wishes) -> AsyncIterator[hosts.Host]:
    if wishes.server is not None:
        async with hosts.server(wishes.server) as server:
            yield server
    else:
        async with hosts.in_process(Path(wishes.config)) as here:
            yield here


def _shown(found: Mapping[str, Any]) -> str:
    parts = [about(found), markdown(found["policies"])]
    if "compare" in found:
        parts += found["compare"]["words"]
    return "\n\n".join(parts)
