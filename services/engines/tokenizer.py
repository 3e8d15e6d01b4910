"""A model's tokenizer, from a folder or the hub, exactly as its files describe it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atts_core.errors import BadInput


def load(model: str, where: dict[str, Any]) -> Any:
    """The tokenizer that comes with the model.

    AutoTokenizer may put the pre-tokenizer of the model's family in place of what tokenizer.json
    says, without a word; where there is such a file, it is taken as it is.
    """
    from huggingface_hub import try_to_load_from_cache
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if where:
        written = (Path(model) / "tokenizer.json").is_file()
    else:
        AutoTokenizer.from_pretrained(model)  # fetches it
        written = isinstance(try_to_load_from_cache(model, "tokenizer.json"), str)
    kind = PreTrainedTokenizerFast if written else AutoTokenizer
    return kind.from_pretrained(model, **where)


def where(model: str, field: str = "model") -> dict[str, Any]:
    """How to look for `model`: a folder is never looked for on the network."""
    if Path(model).is_dir():
        return {"local_files_only": True}
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise BadInput(f"there is no model folder {model}", field=field)
    return {}
