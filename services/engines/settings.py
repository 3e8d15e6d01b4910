"""Which engine runs a model, and what it may use. Replicas, GPUs and placement belong to Serve."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

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
        "copies of the sequences being written may take as much again, in a crowd twice",
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
