"""Where vLLM's workers run: beside the replica, or one in each bundle of its placement group."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
from vllm.platforms import current_platform


def engine_config(args: Any) -> Any:
    """vLLM's configuration of `AsyncEngineArgs`, placed as `ray.serve.llm` does it.

    A replica with a placement group holds no GPU itself: its bundles do, one each at most. So the
    configuration, which looks at the GPU, is made by a task in the group.
    """
    group = get_current_placement_group() if ray.is_initialized() else None
    if group is None or args.tensor_parallel_size == 1:
        return args.create_engine_config()
    config = ray.get(_in_group(group).remote(replace(args, distributed_executor_backend="ray")))
    config.parallel_config.placement_group = group
    # What was remembered of the device before the workers have one is wrong.
    if hasattr(current_platform.get_device_capability, "cache_clear"):
        current_platform.get_device_capability.cache_clear()
    return config


def _in_group(group: PlacementGroup) -> Any:
    return ray.remote(_create).options(
        num_cpus=0,
        num_gpus=0.001,
        scheduling_strategy=PlacementGroupSchedulingStrategy(placement_group=group),
    )


def _create(args: Any) -> Any:
    return args.create_engine_config()
