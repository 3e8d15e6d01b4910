"""The command line, `atts`: one function a command, each in a module of its own."""

from __future__ import annotations

import typer

from services.commands import (
    ask,
    bench,
    calibration,
    doctor,
    eval,
    key,
    plan,
    replay,
    serve,
    settings,
)
from services.commands.failing import in_one_line

app = typer.Typer(
    help="Asynchronous test-time scaling: a draft and a target model answer questions together.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("serve")(serve.serve)
app.command("ask")(ask.ask)
app.command("eval")(eval.evaluate)
app.command("doctor")(doctor.doctor)
app.command("key")(key.key)
app.command("plan")(plan.plan)
app.command("replay")(replay.replay)
app.command("settings")(settings.settings)
app.add_typer(bench.app, name="bench")
app.add_typer(calibration.app, name="calibration")


def main() -> None:
    """Run a command; what the user can mend is one line and exit status 2, a failure is 1."""
    with in_one_line():
        app()


if __name__ == "__main__":
    main()
