"""Tiny dual encoders with random weights, in exactly the layout in which real ones lie on the Hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.tiny_graph import Graph, Shape, add_text, add_vision
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

FAMILIES = ("clip", "siglip")
SIDE = 32
CLIP_LONGEST = 20
SIGLIP_LONGEST = 64

TEXTS = (
    "a photo of a dog.",
    "A Photo of two CATS on the beach",
    "ein Hund läuft über den Strand",
    "山の写真",
    "",
    "a very long sentence about mountains, rivers, lakes, forests and many more things than any tower here can read",
)

_PREPROCESSORS: dict[str, dict[str, Any]] = {
    "clip": {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": 36},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    "siglip": {
        "image_processor_type": "SiglipImageProcessor",
        "do_resize": True,
        "size": {"height": SIDE, "width": SIDE},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    },
}


def write_tiny_model(
    folder: Path,
    family: str = "clip",
    *,
    seed: int = 7,
    width: int = 16,
    suffix: str = "",
    combined: bool = False,
    attention_mask: bool = False,
    half: bool = False,
    external: bool = False,
    preprocessor: Mapping[str, Any] | None = None,
    readme: str = "---\nlicense: mit\ntags:\n- tiny\n---\n# Tiny\n",
) -> Path:
    """Writes a model of that family and returns its folder.

    ``suffix`` goes into the networks' names (``_fp16``); ``combined`` makes one network of both towers; ``external``
    puts weights into ``.onnx_data``; ``preprocessor`` replaces entries of preprocessor_config.json, None removes one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, special = _TOKENIZERS[family]()
    shape = shape_of(family, tokenizer, width)
    tokenizer.save(str(folder / "tokenizer.json"))
    processing = {**_PREPROCESSORS[family], **(preprocessor or {})}
    _write(folder / "preprocessor_config.json", {name: each for name, each in processing.items() if each is not None})
    _write(folder / "special_tokens_map.json", special)
    _write(folder / "tokenizer_config.json", {**special, "model_max_length": shape.longest, **_FAST})
    _write(folder / "config.json", _config(shape, tokenizer))
    (folder / "README.md").write_text(readme)
    weights = random_weights(shape, seed)
    if combined:
        graph = Graph(weights, shape)
        add_text(graph, attention_mask=attention_mask, output="text_embeds")
        add_vision(graph, half=half, output="image_embeds")
        graph.save(folder / "onnx" / f"model{suffix}.onnx", external=external)
        return folder
    vision, text = Graph(weights, shape), Graph(weights, shape)
    add_vision(vision, half=half)
    add_text(text, attention_mask=attention_mask)
    vision.save(folder / "onnx" / f"vision_model{suffix}.onnx", external=external)
    text.save(folder / "onnx" / f"text_model{suffix}.onnx", external=external)
    return folder


def tiny_pictures() -> list[NDArray[np.uint8]]:
    """RGB pictures of several forms, with large areas and fine grain."""
    random = np.random.RandomState(3)
    pictures = []
    for rows, columns, cell in ((9, 7, 10), (5, 8, 8), (3, 12, 11), (2, 2, 10), (32, 32, 1)):
        areas = np.kron(random.randint(0, 256, (rows, columns, 3)), np.ones((cell, cell, 1)))
        grain = random.randint(-40, 41, areas.shape)
        pictures.append(np.clip(areas + grain, 0, 255).astype(np.uint8))
    return pictures


def shape_of(family: str, tokenizer: Tokenizer, width: int) -> Shape:
    clip = family == "clip"
    return Shape(
        family=family,
        width=width,
        inner=24,
        heads=2,
        layers=2,
        side=SIDE,
        patch=8,
        longest=CLIP_LONGEST if clip else SIGLIP_LONGEST,
        vocabulary=tokenizer.get_vocab_size(),
        eos=tokenizer.token_to_id("<|endoftext|>" if clip else "</s>"),
        dims=width - 4 if clip else width,
    )


def random_weights(shape: Shape, seed: int) -> dict[str, NDArray[np.float32]]:
    """Weights by the names that transformers gives them; the same for the same seed, everywhere."""
    random = np.random.RandomState(seed)
    weights = {}
    for name, axes in _axes(shape).items():
        values = random.standard_normal(axes)
        if "norm" in name:
            values = 0.1 * values + (1.0 if name.endswith("weight") else 0.0)
        elif "embedding" not in name and len(axes) == 2:
            values = values * axes[1] ** -0.5 * 2
        elif name.endswith("patch_embedding.weight"):
            values = values * 0.2
        elif "position" in name or name.endswith("bias"):
            # Else what is the same for all pictures or texts would count most, and all vectors look alike.
            values = values * 0.2
        weights[name] = values.astype(np.float32)
    return weights


def _axes(shape: Shape) -> dict[str, tuple[int, ...]]:
    width, clip = shape.width, shape.family == "clip"
    patches = (shape.side // shape.patch) ** 2
    axes: dict[str, tuple[int, ...]] = {
        "text_model.embeddings.token_embedding.weight": (shape.vocabulary, width),
        "text_model.embeddings.position_embedding.weight": (shape.longest, width),
        "vision_model.embeddings.patch_embedding.weight": (width, 3, shape.patch, shape.patch),
        "vision_model.embeddings.position_embedding.weight": (patches + clip, width),
    }
    for tower in ("text_model", "vision_model"):
        for number in range(shape.layers):
            axes |= _layer_axes(f"{tower}.encoder.layers.{number}", shape)
    axes |= _norm("text_model.final_layer_norm", width) | _norm("vision_model.post_layernorm", width)
    if clip:
        axes["vision_model.embeddings.class_embedding"] = (width,)
        axes |= _norm("vision_model.pre_layrnorm", width)
        return axes | {f"{each}_projection.weight": (shape.dims, width) for each in ("visual", "text")}
    head = "vision_model.head"
    axes["vision_model.embeddings.patch_embedding.bias"] = (width,)
    axes |= _linear("text_model.head", width, width)
    axes |= {f"{head}.probe": (1, 1, width)}
    axes |= {f"{head}.attention.in_proj_weight": (3 * width, width), f"{head}.attention.in_proj_bias": (3 * width,)}
    axes |= _linear(f"{head}.attention.out_proj", width, width) | _norm(f"{head}.layernorm", width)
    return axes | _mlp(f"{head}.mlp", shape)


def _layer_axes(prefix: str, shape: Shape) -> dict[str, tuple[int, ...]]:
    axes = _mlp(f"{prefix}.mlp", shape)
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        axes |= _linear(f"{prefix}.self_attn.{name}", shape.width, shape.width)
    return axes | _norm(f"{prefix}.layer_norm1", shape.width) | _norm(f"{prefix}.layer_norm2", shape.width)


def _mlp(prefix: str, shape: Shape) -> dict[str, tuple[int, ...]]:
    return _linear(f"{prefix}.fc1", shape.width, shape.inner) | _linear(f"{prefix}.fc2", shape.inner, shape.width)


def _linear(prefix: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (outputs, inputs), f"{prefix}.bias": (outputs,)}


def _norm(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (width,), f"{prefix}.bias": (width,)}


def _config(shape: Shape, tokenizer: Tokenizer) -> dict[str, Any]:
    clip = shape.family == "clip"
    both = {
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "hidden_act": "quick_gelu" if clip else "gelu_pytorch_tanh",
        "layer_norm_eps": shape.epsilon,
    }
    text = {
        **both,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.longest,
        "eos_token_id": shape.eos,
        "bos_token_id": tokenizer.token_to_id("<|startoftext|>") if clip else shape.eos,
        "pad_token_id": shape.eos,
        "projection_dim" if clip else "projection_size": shape.dims,
    }
    vision = {**both, "image_size": shape.side, "patch_size": shape.patch}
    config = {"model_type": shape.family, "text_config": text, "vision_config": vision}
    return config | ({"projection_dim": shape.dims} if clip else {})


_FAST = {"tokenizer_class": "PreTrainedTokenizerFast"}


def _clip_tokenizer() -> tuple[Tokenizer, dict[str, str]]:
    """Byte pairs of lower-case text between a token for the start and one for the end."""
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "a"), ("p", "h"), ("o", "t"), ("ot", "o"), ("ph", "oto"), ("d", "o"), ("do", "g"), ("t", "h")]
    pieces += [left + right for left, right in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: place for place, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokenizer.add_special_tokens([start, end])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])]
    )
    return tokenizer, {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}


def _siglip_tokenizer() -> tuple[Tokenizer, dict[str, str]]:
    """Likely pieces of lower-case text with a token for the end, which also fills up."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(letter, -4.0) for letter in "abcdefghijklmnopqrstuvwxyzäöüß.,山写真"]
    pieces += [("▁a", -2.0), ("▁photo", -2.5), ("▁of", -2.5), ("▁dog", -2.5), ("ing", -3.0), ("the", -3.0)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer, {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}


_TOKENIZERS = {"clip": _clip_tokenizer, "siglip": _siglip_tokenizer}


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False))
