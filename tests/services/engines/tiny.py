"""Tiny models with random weights, and tokenizers of several types."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import torch
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    StableLmConfig,
    StableLmForCausalLM,
)

from services.engines.transformers_engine import TransformersEngine

CORPUS = [
    "Start with 47. Add 38. Multiply by 3. The result is 255.",
    "Nothing is as practical as a good theory, said the river to the stone.",
    "Größe, naïve café, Ελληνικά, кириллица, 中文字符, 日本語, עברית, 😀👩‍👩‍👧",
    "  two  spaces\tand a tab\n\nand an empty line\n",
]
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'tool' %}{{ raise_exception('no tools here') }}"
    "{% endif %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIALS = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]


def byte_level() -> Tokenizer:
    """Byte-level BPE, as of GPT-2 and Qwen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    tokenizer.add_tokens([AddedToken("</think>", normalized=False)])
    return tokenizer


def sentence_piece() -> Tokenizer:
    """A unigram model over "▁" with bytes as the last resort, as of Llama 2 and T5."""
    trained = Tokenizer(models.Unigram())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
    )
    trained.train_from_iterator(CORPUS[:2] * 3, trainer)
    pieces = {piece: -10.0 for piece in sorted(trained.get_vocab()) if piece != "<unk>"}
    vocab = [("<unk>", 0.0), *((f"<0x{byte:02X}>", -30.0) for byte in range(256)), *pieces.items()]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(s, special=True) for s in SPECIALS])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|system|> $A",
        special_tokens=[("<|system|>", tokenizer.token_to_id("<|system|>"))],
    )
    return tokenizer


def letters() -> Tokenizer:
    """Single bytes and some fixed phrases: the type of the embedded pair's tokenizer."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(s, special=True) for s in SPECIALS])
    tokenizer.add_tokens([AddedToken(p, normalized=False) for p in ("Add ", " = ", ". ", "\n\n")])
    return tokenizer


def composed() -> Tokenizer:
    """Byte-level BPE that composes characters first, as Qwen's, and calls `<think>` special."""
    tokenizer = byte_level()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens([AddedToken(s, special=True) for s in ("<think>", "</think>")])
    return tokenizer


def prepended() -> Tokenizer:
    """BPE over characters, bytes as the last resort, a "▁" put before any text, as Llama 2's."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    trainer = trainers.BpeTrainer(vocab_size=150, show_progress=False)
    trained.train_from_iterator(CORPUS[:2] * 3, trainer)
    learnt = json.loads(trained.to_str())["model"]
    first = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = [*first, *learnt["vocab"]]
    tokenizer = Tokenizer(
        models.BPE(
            {piece: i for i, piece in enumerate(pieces)},
            [(one, other) for one, other in learnt["merges"]],
            unk_token="<unk>",
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.normalizer = trained.normalizer
    tokenizer.decoder = sentence_piece().decoder
    tokenizer.add_special_tokens([AddedToken(s, special=True) for s in SPECIALS])
    return tokenizer


TOKENIZERS = {
    "byte_level": byte_level,
    "sentence_piece": sentence_piece,
    "letters": letters,
    "composed": composed,
    "prepended": prepended,
}


def wrapped(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer as transformers loads it."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=TOKENIZERS[kind](), eos_token="<|end|>", pad_token="<|end|>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def small_model(kind: str, vocabulary: int, end: int) -> Any:
    """A random model of an architecture, its numbers large enough to tell tokens apart."""
    torch.manual_seed(5)
    common = {"vocab_size": vocabulary, "eos_token_id": end, "pad_token_id": end}
    rope = {
        **common,
        "bos_token_id": None,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 512,
    }
    if kind == "llama":
        model = LlamaForCausalLM(LlamaConfig(**rope, num_key_value_heads=4))
    elif kind == "qwen2":  # grouped queries
        model = Qwen2ForCausalLM(Qwen2Config(**rope, num_key_value_heads=2))
    elif kind == "qwen3":  # normed queries and keys, and heads of another size than they divide
        model = Qwen3ForCausalLM(Qwen3Config(**rope, num_key_value_heads=2, head_dim=8))
    elif kind == "stablelm":  # its attention cannot be replaced
        model = StableLmForCausalLM(StableLmConfig(**rope, num_key_value_heads=2))
    else:  # learned positions
        model = GPT2LMHeadModel(
            GPT2Config(**common, n_embd=32, n_layer=2, n_head=4, n_positions=512, bos_token_id=end)
        )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(6)
    return model.eval().requires_grad_(False)


KINDS = ("llama", "qwen2", "qwen3", "gpt2", "stablelm")


@asynccontextmanager
async def quiet(engine: TransformersEngine) -> AsyncIterator[None]:
    """Afterwards nothing runs, and all KV is free or in the prefix cache."""
    yield
    await engine.idle()
    status = engine.status()
    assert status["running"] == status["waiting"] == status["kv_used"] == 0
    assert status["kv_cached"] + status["kv_free"] == status["kv_tokens"]
