"""Which files make a dual encoder, in the layout that Transformers.js made common on the Hub::

config.json  preprocessor_config.json  tokenizer.json  [tokenizer_config.json  special_tokens_map.json]
onnx/vision_model.onnx  onnx/text_model.onnx                 two towers, or
onnx/model.onnx                                              one network with both
onnx/…_fp16.onnx  onnx/…_quantized.onnx  …                   the same at lower precision
onnx/….onnx_data                                             weights of a network beyond 2 GB
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightrank.vision.bundle import BundleError

#: What a file name has between the network's name and ``.onnx``, in the order of preference.
PRECISIONS: dict[str, str] = {
    "fp32": "",
    "fp16": "_fp16",
    "quantized": "_quantized",
    "int8": "_int8",
    "uint8": "_uint8",
    "q4f16": "_q4f16",
    "q4": "_q4",
    "bnb4": "_bnb4",
}

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"

_REQUIRED = (CONFIG, PREPROCESSOR, TOKENIZER)
_OPTIONAL = (TOKENIZER_CONFIG, SPECIAL_TOKENS, "README.md", "LICENSE")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubLayout:
    """The files of one dual encoder, relative to its folder. ``vision`` and ``text`` are one file if it has both."""

    precision: str
    vision: str
    text: str
    files: tuple[str, ...]


def choose_files(names: Collection[str], *, source: str, precision: str | None = None) -> HubLayout:
    """Picks what is needed out of all file names of ``source``; without ``precision``, the first of PRECISIONS there.

    Raises BundleError when this is not a dual encoder in the known layout, or not at that precision.
    """
    if precision is not None and precision not in PRECISIONS:
        raise BundleError(f"There is no precision {precision}; choose one of {', '.join(PRECISIONS)}.")
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise BundleError(f"{source} has no {', '.join(missing)}; a dual encoder in the Transformers.js layout has.")
    towers = {each: found for each, suffix in PRECISIONS.items() if (found := _towers(names, suffix))}
    if not towers:
        raise BundleError(
            f"{source} has neither onnx/vision_model.onnx with onnx/text_model.onnx nor onnx/model.onnx, at any"
            " precision: it is not a dual encoder in the Transformers.js layout."
        )
    chosen = precision or next(iter(towers))
    if chosen not in towers:
        raise BundleError(f"{source} has no networks at precision {chosen}; it has {', '.join(towers)}.")
    vision, text = towers[chosen]
    networks = list(dict.fromkeys((vision, text)))
    weights = sorted(name for name in names for network in networks if _belongs_to(name, network))
    extras = [name for name in _OPTIONAL if name in names]
    return HubLayout(precision=chosen, vision=vision, text=text, files=(*_REQUIRED, *extras, *networks, *weights))


def layout_of(folder: Path, precision: str | None = None) -> HubLayout:
    """The same for a folder on this machine."""
    names = {path.relative_to(folder).as_posix() for path in (*folder.glob("*"), *folder.glob("onnx/*"))}
    return choose_files(names, source=str(folder), precision=precision)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in a file of the folder; empty when there is no such file."""
    path = folder / name
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise BundleError(f"{path} does not hold a JSON object.")
    return value


def _towers(names: Collection[str], suffix: str) -> tuple[str, str] | None:
    vision, text = f"onnx/vision_model{suffix}.onnx", f"onnx/text_model{suffix}.onnx"
    if vision in names and text in names:
        return vision, text
    both = f"onnx/model{suffix}.onnx"
    return (both, both) if both in names else None


def _belongs_to(name: str, network: str) -> bool:
    return re.fullmatch(re.escape(network) + r"(_data(_\d+)?|\.data)", name) is not None
