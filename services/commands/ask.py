"""`atts ask`: a question from the terminal, its candidates shown as they grow."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from atts_core.policies import POLICIES
from services import model_files, serve_config
from services.client import local_run, reachable, remote_run
from services.commands.show_run import RunView

HERE = "http://127.0.0.1:8000"


def ask(
    question: Annotated[str, typer.Argument(help="what to ask")],
    server: Annotated[
        str | None,
        typer.Option(envvar="ATTS_SERVER", help=f"a running server; default: {HERE} if it answers"),
    ] = None,
    local: Annotated[bool, typer.Option("--local", help="load the models in this process")] = False,
    config: Annotated[
        Path, typer.Option(help="the Serve configuration whose models --local loads")
    ] = serve_config.LOCAL,
    policy: Annotated[str, typer.Option(help=", ".join(POLICIES))] = "atts",
    candidates: Annotated[int | None, typer.Option(help="chains in parallel")] = None,
    takeover_rate: Annotated[
        float | None, typer.Option(help="expected share of segments the target takes over")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="decides everything drawn")] = None,
    json_: Annotated[bool, typer.Option("--json", help="the result as JSON, nothing else")] = False,
) -> None:
    """Ask one question; without a running server the models are loaded here."""
    options = {"candidates": candidates, "takeover_rate": takeover_rate, "seed": seed}
    body = {
        "model": "atts" if policy == "atts" else f"atts:{policy}",
        "messages": [{"role": "user", "content": question}],
        "atts": {name: value for name, value in options.items() if value is not None},
    }
    result = asyncio.run(_ask(body, server, local, config, live=not json_))
    if json_:
        print(json.dumps(result, ensure_ascii=False, indent=2))


async def _ask(
    body: dict[str, Any], server: str | None, local: bool, config: Path, *, live: bool
) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        if local or (server is None and not await reachable(HERE)):
            if not local:
                print(f"no server at {HERE}: loading the models here …", file=sys.stderr)
            run = await _in_process(stack, body, config)
        else:
            run = remote_run((server or HERE).rstrip("/"), body)
        completion: dict[str, Any] = {}
        with RunView(enabled=live) as view:
            async for event in run:
                if event["event"] == "Completed":
                    completion = event["completion"]
                else:
                    view.show(event)
        view.finish(completion)
        return completion


async def _in_process(
    stack: AsyncExitStack, body: dict[str, Any], config: Path
) -> AsyncIterator[dict[str, Any]]:
    wanted = serve_config.load(config)
    model_files.check_pair(wanted.settings)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    from services.local import local_backend

    backend = await stack.enter_async_context(local_backend(wanted.settings))
    body["model"] = body["model"].replace("atts", wanted.settings.served_model, 1)
    return local_run(backend, body)
