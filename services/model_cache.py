"""Whether the model cache has room for a model that is yet to be fetched: said beforehand."""

from __future__ import annotations

import shutil
from pathlib import Path

from atts_core.errors import BadInput
from services.model_shapes import KNOWN

GIB = 1024**3
BYTES = 2
"""Of a number in the files of the known models, whatever they are served as."""


def require_room(model: str) -> None:
    """`BadInput` where a known model of the hub does not fit the disk of Hugging Face's cache."""
    if model not in KNOWN or Path(model).exists():
        return
    from huggingface_hub.constants import HF_HUB_CACHE

    cache = Path(HF_HUB_CACHE)
    there = next(folder for folder in (cache, *cache.absolute().parents) if folder.exists())
    require(model, cache, shutil.disk_usage(there).free)


def require(model: str, cache: Path, free: int) -> None:
    """The same for a disk with `free` bytes, where `cache` is on it."""
    whole = KNOWN[model].parameters * BYTES
    here = fetched(model, cache)
    if whole - here > free:
        raise BadInput(
            f"model: the cache is too small for {model}: its files take {whole / GIB:.1f} GiB, "
            f"{here / GIB:.1f} of them are in {cache} already, and its disk has "
            f"{free / GIB:.1f} GiB free; enlarge the disk, remove other models from the cache, or "
            "let HF_HOME name a larger one (with the chart: modelCache)",
            field="model",
        )


def fetched(model: str, cache: Path) -> int:
    """Bytes of the model that the cache holds, downloads under way included."""
    blobs = cache / f"models--{model.replace('/', '--')}" / "blobs"
    if not blobs.is_dir():
        return 0
    return sum(file.stat().st_size for file in blobs.iterdir())
