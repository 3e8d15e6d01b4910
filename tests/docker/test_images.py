"""The image files are clean and agree with the project. No image is built, none is run."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from services import serve_config

PROJECT = Path(__file__).resolve().parents[2]
DOCKER = PROJECT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
SCRIPTS = [*sorted(DOCKER.glob("*.sh")), PROJECT / ".ci" / "run"]


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One of the linters that were installed beside this Python."""
    command = [str(Path(sys.executable).parent / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_hadolint_finds_nothing() -> None:
    found = tool("hadolint", str(DOCKER / "Dockerfile"))
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    found = tool("shellcheck", str(script))
    assert found.returncode == 0, found.stdout


def test_the_linters_do_find_something(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:latest\nRUN cd /tmp\n")
    assert tool("hadolint", str(tmp_path / "Dockerfile")).returncode != 0
    (tmp_path / "script.sh").write_text("#!/bin/bash\nrm -rf $1/*\n")
    assert tool("shellcheck", str(tmp_path / "script.sh")).returncode != 0


def test_the_base_is_pinned_by_digest_and_the_images_run_as_nobody_in_particular() -> None:
    foreign = [
        image
        for image in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
        if image not in re.findall(r" AS (\S+)", DOCKERFILE)
    ]
    assert foreign
    assert all("@sha256:" in image for image in foreign)
    for stage in ("cuda", "cpu"):
        assert users(stage)[-1] == "1000:1000"


def users(stage: str) -> list[str]:
    """The users of a stage and of those before it, in order."""
    stages = re.findall(r"^FROM (\S+) AS (\S+)", DOCKERFILE, re.MULTILINE)
    above = {name: parent for parent, name in stages}
    body = re.split(rf"^FROM \S+ AS {stage}$", DOCKERFILE, flags=re.MULTILINE)[1]
    own = re.findall(r"^USER (\S+)", body.split("\nFROM ")[0], re.MULTILINE)
    return (users(above[stage]) if above[stage] in above else []) + own


def test_the_cpu_image_takes_torch_from_pytorch_s_index_of_cpu_builds() -> None:
    assert "ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu\n" in DOCKERFILE
    assert pins("constraints.txt")["torch"].replace(".", "").isdigit()  # no local version


def test_everything_that_is_copied_exists_and_is_sent_to_the_builder() -> None:
    sent = [
        line[1:]
        for line in (PROJECT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert (PROJECT / source).exists(), source
            assert any(Path(source).match(pattern) for pattern in sent), source


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    return loaded


def test_compose_pins_its_images_and_holds_no_password() -> None:
    for service in compose()["services"].values():
        assert re.search(r":v?\d+\.\d+(\.\d+)?", service["image"])
        for name, value in service["environment"].items() if "environment" in service else []:
            if "PASSWORD" in name or "KEYS" in name:
                assert re.match(r"\$\{ATTS_API_KEYS:-\}$|\$\{[A-Z_]+:\?.+\}$", value), name


def test_compose_publishes_on_this_machine_only() -> None:
    for service in compose()["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_every_file_that_compose_mounts_exists() -> None:
    for service in compose()["services"].values():
        for volume in service.get("volumes", []):
            if volume.startswith("."):
                assert (DOCKER / volume.split(":")[0]).exists(), volume


def test_compose_serves_what_the_local_configuration_does_with_another_store() -> None:
    ours = yaml.safe_load((DOCKER / "serve.yaml").read_text())
    store = ours["applications"][0]["args"].pop("store")
    assert ours == yaml.safe_load(serve_config.LOCAL.read_text())
    postgres = compose()["services"]["postgres"]
    assert store["url"].startswith(f"postgresql://{postgres['environment']['POSTGRES_USER']}@")
    serve_config.load(DOCKER / "serve.yaml")


def test_prometheus_scrapes_the_port_that_the_server_s_script_opens() -> None:
    (job,) = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    host, _, port = target.partition(":")
    assert host in compose()["services"]
    assert f"--metrics-export-port={port}" in (DOCKER / "serve.sh").read_text()


def test_both_images_have_what_they_pass_to_each_other_in_the_same_release() -> None:
    cpu, cuda = pins("constraints.txt"), pins("docker/constraints-cuda.txt")
    for package in ("ray", "pydantic", "pydantic-core", "cloudpickle", "msgpack", "grpcio"):
        if package in cpu:
            assert cpu[package] == cuda[package], package
    assert cuda["vllm"].startswith("0.33.")


def pins(file: str) -> dict[str, str]:
    lines = [line for line in (PROJECT / file).read_text().splitlines() if "==" in line]
    named = [line.split("==") for line in lines if not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, version in named}


def test_all_that_the_project_needs_is_pinned_in_both_images() -> None:
    """To mend: see docker/README.md."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    common = [*project["dependencies"], *extras["postgres"], *extras["tracing"]]
    assert named(common) <= set(pins("constraints.txt"))
    assert named([*common, *extras["vllm"]]) <= set(pins("docker/constraints-cuda.txt"))


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~! ]", text)[0].lower().replace("_", "-") for text in requirements}
