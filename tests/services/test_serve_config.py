from pathlib import Path

import pytest
import yaml

from atts_core.errors import BadInput
from services import serve_config


def written(folder: Path, document: object) -> Path:
    path = folder / "config.yaml"
    path.write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    return path


def application(**args: object) -> dict[str, object]:
    models = {"draft": {"model": "a"}, "target": {"model": "b"}}
    return {"applications": [{"import_path": "deployment.app:build", "args": models | args}]}


def test_the_shipped_configuration_is_valid_and_finds_its_models() -> None:
    config = serve_config.load(serve_config.LOCAL)
    assert (config.http.port, config.import_path) == (8000, "deployment.app:build")
    assert set(config.options) == {"Draft", "Target", "CalibrationStore", "Router"}
    assert config.settings.method.takeover_cue == "Check. "


def test_a_relative_model_folder_is_found_in_the_project_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = serve_config.load(serve_config.LOCAL)
    assert Path(config.settings.draft.model).is_dir()


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("a: [", "no valid YAML"),
        ("just text", "no Serve configuration"),
        ({"applications": []}, "applications: found []"),
        (application(method={"takeover_rte": 0.4}), "did you mean 'takeover_rate'"),
        (application(method={"takeover_rate": 2}), "args.method.takeover_rate: found 2"),
        ({"applications": [{"args": {"draft": {"model": "a"}}}]}, "args.target: missing"),
        ({**application(), "http_options": {"port": "eighty"}}, "http_options.port"),
        ({**application(), "http_options": {"prot": 80}}, "http_options.prot"),
        (
            {"applications": [{**application()["applications"][0], "deployments": [{"nme": 1}]}]},
            "deployments.0.name: missing",
        ),
    ],
)
def test_what_is_wrong_in_a_configuration_is_named_with_its_file(
    tmp_path: Path, document: object, says: str
) -> None:
    path = written(tmp_path, document)
    with pytest.raises(BadInput) as caught:
        serve_config.load(path)
    assert str(path) in caught.value.message
    assert says in caught.value.message


def test_a_missing_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"absent\.yaml: cannot be read"):
        serve_config.load(tmp_path / "absent.yaml")


def test_a_server_s_model_is_a_name_there_and_its_tokenizer_a_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = "models/arithmetic/target"
    served = {"engine": "http", "url": "http://a:1", "model": folder, "tokenizer": folder}
    found = serve_config.load(written(tmp_path, application(draft=served))).settings.draft
    assert found.model == folder
    assert Path(found.model_dump()["tokenizer"]).is_dir()
