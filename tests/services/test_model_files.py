import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from atts_core.errors import BadInput
from services import model_files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / name).write_text(json.dumps({}))
    save_file({"weight": np.zeros(3)}, tmp_path / "model.safetensors")
    return tmp_path


def test_a_whole_folder_passes(folder: Path) -> None:
    model_files.check(str(folder), "draft")


def test_a_hub_name_is_left_to_the_engine() -> None:
    model_files.check("Qwen/QwQ-32B", "target")


@pytest.mark.parametrize("missing", ["./nothing/here", "/nothing/here", "models/arithmetic/absent"])
def test_a_missing_folder_is_named(missing: str) -> None:
    with pytest.raises(BadInput, match=rf"^draft\.model: no folder '{missing}'"):
        model_files.check(missing, "draft")


def test_a_folder_without_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(BadInput, match=r"config\.json: No such file"):
        model_files.check(str(folder), "draft")


def test_a_broken_configuration_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    with pytest.raises(BadInput, match="no valid JSON"):
        model_files.check(str(folder), "draft")


def test_cut_weights_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(BadInput, match=r"model\.safetensors is broken"):
        model_files.check(str(folder), "draft")


def test_a_folder_without_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(BadInput, match=r"holds no \*\.safetensors"):
        model_files.check(str(folder), "target")
