"""Whether a pair fits its GPUs: weights, KV of a question's candidates, and the room beside them.

KV of one token = 2 · layers · KV heads · head size · bytes. A question at its longest needs that
for `candidates` chains of a whole context; a pool that cannot hold one such question would drop and
recompute prefixes all the time, so it is refused. The room beside is an estimate; vLLM measures its
own at start and says how many tokens fit (`kv_tokens` of `/ready`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from atts_core.engine import Capabilities
from atts_core.errors import BadInput
from atts_core.settings import Method
from services.engines.settings import HttpSettings, Kind, TransformersSettings, VllmSettings
from services.model_shapes import Shape, shape_of
from services.serve_config import ServeConfig

GIB = 1024**3

GPU_GIB: Mapping[str, float] = {
    "T4": 15.0,
    "L4": 22.49,
    "A10G": 22.49,
    "A100-40G": 40.0,
    "L40S": 44.99,
    "A100-80G": 80.0,
    "H100": 79.65,
    "H200": 140.4,
}
"""Memory by Ray's accelerator type, as nvidia-smi shows it (MiB / 1024)."""

PROMPT_TOKENS = 1024
"""Tokens of a question with its template; a longer one leaves a chain less."""

RUNTIME_BYTES = int(1.5 * GIB)
"""CUDA's context, the captured graphs and the workspaces of one GPU; an estimate."""

# Checkpoints of large models have two bytes a number.
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "auto": 2}


@dataclass(frozen=True)
class Placement:
    """What one replica needs of each of its GPUs, in bytes, and what that GPU has."""

    role: str
    model: str
    gpu: str
    gpus: int
    usable: int
    weights: int
    runtime: int
    kv_per_token: int
    candidates: int
    context: int

    @property
    def kv(self) -> int:
        """Of one question at its longest."""
        return self.candidates * self.context * self.kv_per_token

    @property
    def tokens(self) -> int:
        """Whose KV fits beside weights and runtime."""
        return max(0, self.usable - self.weights - self.runtime) // self.kv_per_token

    @property
    def questions(self) -> float:
        """At their longest, at once."""
        return self.tokens / (self.candidates * self.context)

    @property
    def fits(self) -> bool:
        return self.weights + self.runtime + self.kv <= self.usable

    def arithmetic(self) -> str:
        def gib(count: int) -> str:
            return f"{count / GIB:.1f}"

        return (
            f"on each of {self.gpus} × {self.gpu}: weights {gib(self.weights)} + runtime "
            f"{gib(self.runtime)} + KV {gib(self.kv)} ({self.candidates} candidates × "
            f"{self.context} tokens × {self.kv_per_token / 1024:.0f} KiB) = "
            f"{gib(self.weights + self.runtime + self.kv)} GiB of {gib(self.usable)} usable"
        )


def placements(config: ServeConfig, gpu_gib: Mapping[str, float] = GPU_GIB) -> Iterator[Placement]:
    """Of the pools whose model and GPU are known; a CPU, or a server elsewhere, is left out.

    The GPU is the one that the deployment's label `ray.io/accelerator-type` asks for.
    """
    settings = config.settings
    for role, engine in (("draft", settings.draft), ("target", settings.target)):
        gpu = accelerator(config.options.get(role.title(), {}))
        found = placement(role, engine, gpu, settings.method, gpu_gib)
        if found is not None:
            yield found


def placement(
    role: str,
    engine: Kind,
    gpu: str | None,
    method: Method,
    gpu_gib: Mapping[str, float] = GPU_GIB,
) -> Placement | None:
    """Of one replica on GPUs of one type; None where the model or the type is not known."""
    if isinstance(engine, HttpSettings) or gpu is None or gpu not in gpu_gib:
        return None
    shape = shape_of(engine.model)
    weights = None if shape is None else _weights(shape, engine)
    if shape is None or weights is None:
        return None
    return _placement(role, engine, shape, weights, gpu, int(gpu_gib[gpu] * GIB), method)


def require_fit(config: ServeConfig) -> None:
    """`BadInput` with the arithmetic where a pool has too few GPUs, or too little memory.

    Too little is what cannot hold one question at its longest.
    """
    for role in ("draft", "target"):
        _require_gpus(role, getattr(config.settings, role), config.options.get(role.title(), {}))
    for found in placements(config):
        require_placement(found)


def require_placement(wanted: Placement) -> None:
    """`BadInput` with the arithmetic where a question at its longest does not fit."""
    if not wanted.fits:
        field = f"{wanted.role}.model"
        raise BadInput(
            f"{field}: {wanted.model} does not fit {wanted.arithmetic()}; {advice(wanted)}",
            field=field,
        )


def require_chain(role: str, engine: Capabilities, method: Method) -> str | None:
    """What a loaded engine really holds, against one chain at its longest and a question's.

    Raises `BadInput` where not even one chain finds room. Where one does but a question's
    `candidates` do not, they wait for each other and lose their prefixes: returned as a sentence.
    """
    longest = context(method, engine.max_len)
    has = f"{role}: {engine.model} has room for the KV of {engine.kv_tokens} tokens"
    if engine.kv_tokens < longest:
        raise BadInput(
            f"{has}, one chain at its longest has {longest}: {PROMPT_TOKENS} of the question and "
            f"{method.turns} turns of {method.draft_tokens} + {method.target_tokens}, if neither "
            "max_tokens nor max_len is less; give it more memory (kv_tokens, kv_gib, gpu_memory or "
            f"tensor_parallel of {role}), or lower method.turns, method.max_tokens or max_len",
            field=role,
        )
    if engine.kv_tokens < longest * method.candidates:
        return (
            f"{has}, and a question at its longest has {method.candidates} candidates × {longest}: "
            "they will wait for each other, and be read anew"
        )
    return None


def _require_gpus(role: str, engine: Any, options: Mapping[str, Any]) -> None:
    """The replica's bundles, or itself, must hold as many GPUs as share the model."""
    actor = options.get("ray_actor_options") or {}
    bundles = options.get("placement_group_bundles") or []
    held = sum(b.get("GPU", 0) for b in bundles) if bundles else actor.get("num_gpus", 0)
    wanted = engine.tensor_parallel if isinstance(engine, VllmSettings) else 1
    if wanted > 1 and held != wanted:
        where = "placement_group_bundles" if bundles else "ray_actor_options.num_gpus"
        raise BadInput(
            f"{role}.tensor_parallel: {wanted} GPUs share the model, but a replica of "
            f"{role.title()} holds {held} ({where}); give it {wanted} bundles of one GPU each, or "
            f"set tensor_parallel to {max(1, int(held))}",
            field=f"{role}.tensor_parallel",
        )


def advice(placement: Placement) -> str:
    """What to change, the least first."""
    room = placement.tokens // placement.candidates
    if room < 1:
        return "share the weights between more GPUs (tensor_parallel), or take larger ones"
    return (
        f"chains of {room} tokens fit: lower {placement.role}.max_len or method.candidates, "
        "raise tensor_parallel, or take larger GPUs"
    )


def accelerator(options: Mapping[str, Any]) -> str | None:
    """The GPU type that a deployment's labels ask for, if they do."""
    actor = options.get("ray_actor_options") or {}
    selectors = [
        actor.get("label_selector") or {},
        *(options.get("placement_group_bundle_label_selector") or []),
    ]
    named = [s["ray.io/accelerator-type"] for s in selectors if "ray.io/accelerator-type" in s]
    return named[0] if named else actor.get("accelerator_type")


def context(method: Method, max_len: int | None) -> int:
    """Tokens of the longest chain, prompt included."""
    written = method.max_tokens or method.turns * (method.draft_tokens + method.target_tokens)
    longest = PROMPT_TOKENS + written
    return longest if max_len is None else min(longest, max_len)


def _weights(shape: Shape, engine: TransformersSettings | VllmSettings) -> int | None:
    """Bytes of all GPUs; None for a quantisation whose size cannot be told from its name."""
    each = BYTES[engine.dtype]
    quantization = engine.quantization if isinstance(engine, VllmSettings) else None
    if quantization is None:
        return shape.parameters * each
    if quantization == "fp8":
        return shape.parameters - shape.embeddings + shape.embeddings * each
    return None


def _placement(
    role: str,
    engine: TransformersSettings | VllmSettings,
    shape: Shape,
    weights: int,
    gpu: str,
    memory: int,
    method: Method,
) -> Placement:
    each = BYTES[engine.dtype]
    gpus = engine.tensor_parallel if isinstance(engine, VllmSettings) else 1
    if shape.heads % gpus:
        raise BadInput(
            f"{role}.tensor_parallel: {engine.model} has {shape.heads} attention heads, which "
            f"{gpus} GPUs cannot share evenly; use a divisor of {shape.heads}",
            field=f"{role}.tensor_parallel",
        )
    # A rated segment's logits and their log-softmax, in float32, of a whole step.
    logits = 2 * 4 * engine.prefill_tokens * shape.vocab
    share = engine.gpu_memory if isinstance(engine, VllmSettings) else 0.9
    usable = int(memory * share)
    beside = -(-weights // gpus) + RUNTIME_BYTES + logits
    # Our own engine's working copies may take as much again as its cache.
    per_token = shape.kv_bytes(each, gpus) * (1 if isinstance(engine, VllmSettings) else 2)
    if not isinstance(engine, VllmSettings):
        usable = min(usable, beside + engine.kv_tokens * per_token)
    elif engine.kv_gib is not None:
        # vLLM then takes so much for KV, whatever `gpu_memory` leaves.
        usable = min(memory, beside + int(engine.kv_gib * GIB))
    return Placement(
        role=role,
        model=engine.model,
        gpu=gpu,
        gpus=gpus,
        usable=usable,
        weights=-(-weights // gpus),
        runtime=RUNTIME_BYTES + logits,
        kv_per_token=per_token,
        candidates=method.candidates,
        context=context(method, engine.max_len),
    )
