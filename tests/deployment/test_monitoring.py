"""`make monitoring`: what it starts, what it says, and what it says of bad input."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest
import yaml

from benchmarks.server import free_port
from deployment.monitoring import PROJECT, configuration

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="apt-get install prometheus"
)


def monitoring(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "deployment.monitoring", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT
    )


class Metrics(BaseHTTPRequestHandler):
    """A node's metrics."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ray_atts_router_up 1\n")

    def log_message(self, *said: object) -> None:
        pass


@pytest.fixture
def node() -> Iterator[str]:
    """HOST:PORT of a node's metrics."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@needs_prometheus
def test_it_says_where_to_look_and_ends_with_its_prometheus(node: str, tmp_path: Path) -> None:
    port = free_port()
    started = monitoring(node, "--port", str(port), "--every", "1", "--data", str(tmp_path))
    assert started.stdout is not None
    said = [started.stdout.readline() for _ in range(11)]
    text = "".join(said)
    url = f"http://127.0.0.1:{port}"
    try:
        assert f"{url}/alerts" in text
        assert "NOTHING ANSWERS" not in text
        for query in re.findall(rf"{url}/graph\?g0\.expr=([^&]+)", text):
            found = httpx.get(f"{url}/api/v1/query?query={query}").json()
            assert found["status"] == "success"
        rules = httpx.get(f"{url}/api/v1/rules").json()["data"]["groups"]
        assert {"atts-alerts", "atts-method"} <= {group["name"] for group in rules}
    finally:
        started.send_signal(signal.SIGTERM)
        started.communicate(timeout=60)
    assert started.returncode == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


@needs_prometheus
def test_a_server_that_does_not_answer_yet_is_named_with_the_command_that_starts_it() -> None:
    target = f"127.0.0.1:{free_port()}"
    started = monitoring(target, "--port", str(free_port()))
    assert started.stdout is not None
    try:
        said = "".join(started.stdout.readline() for _ in range(12))
    finally:
        started.send_signal(signal.SIGINT)
        started.communicate(timeout=60)
    assert f"NOTHING ANSWERS at http://{target}/metrics" in said
    assert f"--metrics-port {target.rpartition(':')[2]}" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prometheus", "/no/such/program"], "/no/such/program is no program"),
        pytest.param(["--port", "TAKEN"], "cannot be used", marks=needs_prometheus),
        pytest.param(["--data", "FILE"], "is a file", marks=needs_prometheus),
        (["http://node:8080/metrics"], "is not HOST:PORT"),
        (["--every", "0"], "--every takes whole seconds"),
    ],
    ids=["no program", "a port that is taken", "a file for a folder", "no target", "no interval"],
)
def test_bad_input_is_one_line_and_ends_it(arguments: list[str], said: str, node: str) -> None:
    taken = node.rpartition(":")[2]
    given = [{"TAKEN": taken, "FILE": __file__}.get(one, one) for one in arguments]
    if "--port" not in given:
        given += ["--port", str(free_port())]
    started = monitoring(*given)
    try:
        _, errors = started.communicate(timeout=60)
    finally:
        started.terminate()
    assert started.returncode in (1, 2)
    assert said in errors
    assert "Traceback" not in errors


@pytest.mark.skipif(shutil.which("promtool") is None, reason="apt-get install prometheus")
@pytest.mark.parametrize("which", ["local", "docker"])
def test_promtool_accepts_the_configuration(which: str, tmp_path: Path) -> None:
    path = tmp_path / "prometheus.yml"
    if which == "local":
        path.write_text(configuration(["a:8080", "b:8080"]))
    else:
        text = (PROJECT / "docker" / "prometheus.yml").read_text()
        rules = str(PROJECT / "helm" / "atts" / "files" / "rules")
        path.write_text(text.replace("/etc/prometheus/rules", rules))
    ran = subprocess.run(
        ["promtool", "check", "config", str(path)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("rules found") == 2


def test_docker_scrapes_and_evaluates_as_the_local_configuration_does() -> None:
    docker = yaml.safe_load((PROJECT / "docker" / "prometheus.yml").read_text())
    local = yaml.safe_load(configuration(["atts:8080"], rules=Path("/etc/prometheus/rules")))
    assert docker == local
