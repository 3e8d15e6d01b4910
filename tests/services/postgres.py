"""A PostgreSQL server of the tests' own, where Debian's or another package of it is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Server:
    """A database server in a folder of its own, on a port of its own.

    At another `host` than this machine's own, whoever comes from its network needs `password`.
    """

    def __init__(
        self, programs: Path, folder: Path, host: str = "127.0.0.1", password: str = "unused"
    ) -> None:
        self._programs, self._folder, self._host = programs, folder, host
        self._port = _free_port()
        # The server refuses to run as root: there it is another user's, who must reach its folder.
        self._user = "postgres" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(folder, self._user)
        secret = folder / "password"
        secret.write_text(password)
        self._run(
            *("initdb", "-U", "atts", "-A", "trust", f"--pwfile={secret}", "--no-sync"),
            *("-E", "UTF8", "--locale", "C"),
        )
        if host != "127.0.0.1":
            with (folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {host}/24 scram-sha-256\n")
        self.url = f"postgresql://atts@{host}:{self._port}/postgres"

    def start(self) -> None:
        options = f"-p {self._port} -h {self._host} -k {self._folder}"
        self._run("pg_ctl", "start", "-w", "-l", str(self._folder / "log"), "-o", options)

    def stop(self) -> None:
        """As a machine that loses its power stops."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self._programs / program, "-D", self._folder / "data", *arguments],
            user=self._user,
            cwd=self._folder,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60,
        )


@contextmanager
def postgres_server(host: str = "127.0.0.1", password: str = "unused") -> Iterator[Server]:
    """A server with one empty database; skips the test where there is no such program."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="atts-postgres-"))
    try:
        server = Server(programs, folder, host, password)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


def _programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`: Debian keeps them out of the path."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return newest[-1].parent if newest else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
