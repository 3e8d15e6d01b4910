"""The architecture's arrows are enforced by a machine: a planted import is found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("atts_core", "services", "deployment", "models", "benchmarks")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [command, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(
            PROJECT / package,
            tmp_path / package,
            ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"),
        )
    return tmp_path


@pytest.mark.parametrize(
    ("file", "planted"),
    [
        ("atts_core/scaling.py", "import ray"),
        ("atts_core/scaling.py", "from services import wire"),
        ("services/wire.py", "import deployment.app"),
    ],
)
def test_a_planted_import_against_the_arrows_is_refused(
    copy: Path, file: str, planted: str
) -> None:
    target = copy / file
    target.write_text(target.read_text() + f"\n{planted}\n")
    done = lint(copy)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Broken contracts" in done.stdout


def test_today_s_imports_keep_to_the_arrows(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout + done.stderr
