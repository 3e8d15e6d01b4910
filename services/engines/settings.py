"""Which engine runs a model, and what it may use. Replicas, GPUs and placement belong to Serve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from atts_core.settings import Strict


class TransformersSettings(Strict):
    """One model in the replica's own process."""

    engine: Literal["transformers"] = Field(
        "transformers", description="this engine: any Hugging Face causal model, CPU or CUDA"
    )
    model: str = Field(
        min_length=1, description="a folder in Hugging Face format, or a name on the hub"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of weights and KV; auto: float32 on a CPU, the checkpoint's on a GPU"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where the model runs; auto: a GPU where there is one"
    )
    kv_tokens: int = Field(
        32_768,
        ge=16,
        le=100_000_000,
        description="tokens whose KV the prefix cache and all requests hold together; the working "
        "copies of the sequences being written come on top: r of like length w take up to "
        "1.5 max(1.5 r, r + 4) max(1.5 w, w + 64) tokens, r the most since they last moved, and "
        "while they move beside those they move from",
    )
    max_batch: int = Field(
        64, ge=1, le=4096, description="sequences written at once, and segments rated at once"
    )
    prefill_tokens: int = Field(
        512,
        ge=16,
        le=65_536,
        description="tokens read in one step, so that long prompts do not hold up the writing",
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="CPU threads of one operation; 0: one for a small model, else torch's choice",
    )
    max_len: int | None = Field(
        None, ge=2, description="context in tokens; None: what the model was made for"
    )


class VllmSettings(Strict):
    """One model in vLLM, inside the replica (the extra `vllm`)."""

    engine: Literal["vllm"] = Field(description="vLLM's own engine, for large models on GPUs")
    model: str = Field(
        min_length=1, description="a folder in Hugging Face format, or a name on the hub"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of weights and KV; auto: the checkpoint's"
    )
    quantization: str | None = Field(
        None, min_length=1, description="vLLM's name of a method, e.g. fp8; None: the checkpoint's"
    )
    tensor_parallel: int = Field(
        1,
        ge=1,
        le=64,
        description="GPUs that share the model; more than one are those of the replica's "
        "placement group, one a bundle, or the replica's own",
    )
    gpu_memory: float = Field(
        0.9, gt=0, le=1, description="share of each GPU's memory for weights and KV"
    )
    kv_gib: float | None = Field(
        None,
        gt=0,
        le=10_000,
        description="GiB of each GPU (or of a CPU's memory) for KV, instead of what `gpu_memory` "
        "leaves; None: that",
    )
    block_size: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="tokens a block of the prefix cache; None: vLLM's choice. A CPU wants "
        "multiples of 32",
    )
    max_batch: int = Field(256, ge=1, le=4096, description="sequences in one step")
    prefill_tokens: int = Field(
        2048,
        ge=32,
        le=65_536,
        description="tokens of all sequences in one step; where vLLM has no Model Runner V2, "
        "scoring materialises logits of so many",
    )
    max_len: int | None = Field(
        None,
        ge=2,
        description="context in tokens, one of which stays free for the token that vLLM writes "
        "behind a rated text; None: what the model was made for",
    )
    eager: bool = Field(
        False, description="no compilation and no CUDA graphs: starts sooner, runs slower"
    )


class HttpSettings(Strict):
    """One model on a server that already runs."""

    engine: Literal["http"] = Field(description="a server that already runs")
    url: str = Field(
        pattern=r"^https?://[^@\s]+$", description="the server's root, e.g. http://gpu-1:8000"
    )
    model: str = Field(min_length=1, description="the model's name on that server")
    server: Literal["auto", "vllm", "sglang", "openai"] = Field(
        "auto", description="what kind of server it is; auto: probed. openai can only be a draft"
    )
    tokenizer: str | None = Field(
        None,
        min_length=1,
        description="the model's tokenizer and chat template: a folder, or a name on the hub; "
        "None: `model`",
    )
    max_len: int | None = Field(
        None, ge=2, description="context in tokens; None: what the server says"
    )
    api_key_env: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="environment variable that holds the server's API key; None: it needs none",
    )
    max_requests: int = Field(
        256, ge=1, le=65_536, description="requests sent at once; the others wait here"
    )
    connect_seconds: float = Field(
        5.0, gt=0, le=600, description="a connection that takes longer has failed"
    )
    read_seconds: float = Field(
        600.0,
        gt=0,
        le=86_400,
        description="a server that sends nothing for longer has failed: no byte of a whole answer, "
        "or no further token of a stream",
    )
    retries: int = Field(
        3, ge=0, le=20, description="further attempts to connect where the server is not reached"
    )
    backoff_seconds: float = Field(
        0.5, gt=0, le=60, description="pause before the second attempt; each further one doubles it"
    )


Kind = TransformersSettings | VllmSettings | HttpSettings

KINDS: Mapping[str, type[Kind]] = {
    "transformers": TransformersSettings,
    "vllm": VllmSettings,
    "http": HttpSettings,
}
"""Every engine's settings, by the name a user writes as `engine`; the first is the default."""


def _kind(given: Any) -> str | None:
    name = given.get("engine", "transformers") if isinstance(given, Mapping) else given.engine
    found = KINDS.get(name) if isinstance(name, str) else None
    return None if found is None else found.__name__


EngineSettings = Annotated[
    Annotated[TransformersSettings, Tag("TransformersSettings")]
    | Annotated[VllmSettings, Tag("VllmSettings")]
    | Annotated[HttpSettings, Tag("HttpSettings")],
    Discriminator(
        _kind,
        custom_error_type="engine",
        custom_error_message=f"`engine` must be one of: {', '.join(KINDS)}",
    ),
]
"""One engine's settings, of the class that its `engine` names."""
