"""The shipped Serve configurations are such as Serve and our settings take, and agree inside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray._common.utils import import_attr
from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
from ray.serve.schema import ServeDeploySchema

from deployment.app import DEPLOYMENTS, build, with_options
from services import serve_config

DEPLOYMENT = Path(__file__).resolve().parents[2] / "deployment"
SHIPPED = [
    DEPLOYMENT / "local.yaml",
    DEPLOYMENT / "cluster.yaml",
    *sorted((DEPLOYMENT / "pairs").glob("*.yaml")),
]
CLUSTERS = SHIPPED[1:]

shipped = pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
clusters = pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.stem)


def options(path: Path) -> dict[str, Any]:
    (application,) = yaml.safe_load(path.read_text())["applications"]
    return {deployment["name"]: deployment for deployment in application["deployments"]}


@shipped
def test_serve_takes_it_whole(path: Path) -> None:
    """As `serve deploy` and KubeRay send it: deployments overlaid by Serve itself."""
    document = yaml.safe_load(path.read_text())
    ServeDeploySchema.model_validate(document)
    assert set(options(path)) == set(DEPLOYMENTS)


@shipped
def test_it_builds_as_atts_serve_does(path: Path) -> None:
    config = serve_config.load(path)
    with_options(config.settings.model_dump(mode="json"), config.options)


@shipped
def test_it_builds_as_serve_deploy_and_kuberay_do(path: Path) -> None:
    """Serve's own way from `import_path` and `args`: it refuses a builder of two parameters."""
    (application,) = yaml.safe_load(path.read_text())["applications"]
    builder = import_attr(application["import_path"])
    call_user_app_builder_with_args_if_necessary(builder, application["args"])


def test_the_application_finds_its_models_wherever_it_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KubeRay's head builds it in a folder of its own."""
    (application,) = yaml.safe_load((DEPLOYMENT / "cluster.yaml").read_text())["applications"]
    monkeypatch.chdir(tmp_path)
    router = build(application["args"])._bound_deployment
    assert Path(router.init_args[0].draft.model).is_absolute()
    assert Path(router.init_args[0].draft.model).is_dir()


@clusters
def test_model_pools_are_pinned_to_their_nodes_and_routers_spread(path: Path) -> None:
    found = options(path)
    for pool in ("Draft", "Target"):
        selectors = found[pool].get("placement_group_bundle_label_selector") or [
            found[pool]["ray_actor_options"]["label_selector"]
        ]
        assert {selector["atts-pool"] for selector in selectors} == {pool.lower()}
    assert found["Router"]["max_replicas_per_node"] == 1
    assert yaml.safe_load(path.read_text())["proxy_location"] == "EveryNode"


@clusters
def test_a_router_drains_longer_than_a_target_and_a_question(path: Path) -> None:
    found = options(path)
    router = found["Router"]["graceful_shutdown_timeout_s"]
    assert router > found["Target"]["graceful_shutdown_timeout_s"]
    deadline = serve_config.load(path).settings.method.deadline_ms
    assert deadline is not None
    assert router * 1000 > deadline


@clusters
def test_a_replica_of_several_gpus_stays_on_one_node(path: Path) -> None:
    target = options(path)["Target"]
    if "placement_group_bundles" in target:
        assert target["placement_group_strategy"] == "STRICT_PACK"
        assert all(bundle["GPU"] == 1 for bundle in target["placement_group_bundles"])
