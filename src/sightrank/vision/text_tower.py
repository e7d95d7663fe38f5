"""Texts to unit vectors: the tokenizer and the text tower of a dual encoder from the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, normalizers

from sightrank.vision.bundle import BundleError
from sightrank.vision.embedder import batch_size_for
from sightrank.vision.hub_files import CONFIG, SPECIAL_TOKENS, TOKENIZER, TOKENIZER_CONFIG, read_json
from sightrank.vision.tower import Tower

# Tokens a tower reads where its files do not say: what its family was trained with.
_FAMILY_LENGTH = {"siglip": 64, "clip": 77}
# A tokenizer without a limit writes a number like 1e30.
_LONGEST_TEXT = 8192
# SigLIP 2 was trained on lower case only, which its tokenizer (Gemma's) leaves to whoever calls it.
_LOWER_CASED = ("Gemma", "Siglip2")
_SHORTEST_PADDED = 8
_PROBE = "a photo"
# How far apart the vectors of one text may be at two paddings, for a tower that does not look at padding.
_SAME = 1e-4


class HubTextEncoder:
    """The text tower (a TextEncoder). Texts beyond ``longest`` tokens are cut.

    A tower that lets padding count (SigLIP has no attention mask) must always get its full length; one that does not is
    given only as much as the longest text needs. Which it is, is tried once.
    """

    def __init__(self, tower: Tower, folder: Path, config: dict[str, Any], *, picture_side: int) -> None:
        self._tower = tower
        self._picture_side = picture_side
        settings = read_json(folder, TOKENIZER_CONFIG)
        siglip = "siglip" in str(config.get("model_type", "")).lower()
        self._tokenizer = _tokenizer(folder / TOKENIZER)
        if siglip and str(settings.get("tokenizer_class", "")).startswith(_LOWER_CASED):
            _lower_case(self._tokenizer)
        # SigLIP was trained to read its padding; a mask that an export wants all the same must hide nothing.
        self._reads_padding = siglip
        fixed_length = tower.fixed("input_ids", 1)
        self.longest = fixed_length or _longest(settings, config, self._tokenizer, folder)
        self._pad_id = _pad_id(self._tokenizer, settings, config, folder)
        self._pad_left = settings.get("padding_side") == "left"
        side = "left" if settings.get("truncation_side") == "left" else "right"
        self._tokenizer.enable_truncation(self.longest, direction=side)
        self._tokenizer.no_padding()
        self._fixed_count = tower.fixed("input_ids", 0)
        self._always_full = True
        probe = self.encode_part([_PROBE])
        self.dims = probe.shape[1]
        if fixed_length is None:
            self._always_full = not self._is_the_same_when_shorter(probe)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors [n, dims]; any n, run in batches of at most 16."""
        vectors = np.empty((len(texts), self.dims), np.float32)
        start = 0
        while start < len(texts):
            size = self._fixed_count or batch_size_for(len(texts) - start)
            part = texts[start : start + size]
            vectors[start : start + len(part)] = self.encode_part(part, size)
            start += len(part)
        return vectors

    def encode_part(self, texts: Sequence[str], count: int = 1) -> NDArray[np.float32]:
        """One run of the tower on ``count`` texts, filled up with empty ones."""
        count = self._fixed_count or count
        ids, mask = self.tokens([*texts, *[""] * (count - len(texts))])
        picture = np.zeros((1, 3, self._picture_side, self._picture_side), np.float32)
        values: dict[str, NDArray[Any]] = {
            "input_ids": ids,
            "attention_mask": np.ones_like(mask) if self._reads_padding else mask,
            "token_type_ids": 0 * ids,
            "pixel_values": picture,
        }
        return self._tower.run(values)[: len(texts)]

    def tokens(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids, and 1 where they are no padding; both [n, length]."""
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        length = self.longest if self._always_full else _padded_length(max(map(len, rows)), self.longest)
        ids = np.full((len(rows), length), self._pad_id, np.int64)
        mask = np.zeros((len(rows), length), np.int64)
        for place, row in enumerate(rows):
            part = slice(length - len(row), length) if self._pad_left else slice(0, len(row))
            ids[place, part], mask[place, part] = row, 1
        return ids, mask

    def _is_the_same_when_shorter(self, full: NDArray[np.float32]) -> bool:
        self._always_full = False
        try:
            shorter = self.encode_part([_PROBE])
        except BundleError:  # it takes its full length only
            return False
        return bool(np.abs(full - shorter).max() < _SAME)


def _padded_length(needed: int, longest: int) -> int:
    """One of a few lengths, because every new shape makes ONNX Runtime plan again."""
    length = _SHORTEST_PADDED
    while length < needed:
        length *= 2
    return min(length, longest)


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise BundleError(f"{path} is not a tokenizer that can be read: {str(error)[:200]}.") from error


def _lower_case(tokenizer: Tokenizer) -> None:
    rest = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rest])


def _longest(settings: dict[str, Any], config: dict[str, Any], tokenizer: Tokenizer, folder: Path) -> int:
    text = config.get("text_config")
    text = text if isinstance(text, dict) else {}
    stated = (
        settings.get("model_max_length"),
        text.get("max_position_embeddings", config.get("max_position_embeddings")),
        text.get("context_length"),
        (tokenizer.truncation or {}).get("max_length"),
    )
    lengths = [int(value) for value in stated if isinstance(value, int | float) and 2 <= value <= _LONGEST_TEXT]
    if lengths:
        return min(lengths)
    family = str(config.get("model_type", "")).lower()
    for name, length in _FAMILY_LENGTH.items():
        if name in family:
            return length
    raise BundleError(
        f"{folder}: neither model_max_length in {TOKENIZER_CONFIG} nor max_position_embeddings in {CONFIG} says how"
        " long a text may be."
    )


def _pad_id(tokenizer: Tokenizer, settings: dict[str, Any], config: dict[str, Any], folder: Path) -> int:
    """The token that fills up; files name it in several places, and not all of them do."""
    for token in (settings.get("pad_token"), read_json(folder, SPECIAL_TOKENS).get("pad_token")):
        content = token.get("content") if isinstance(token, dict) else token
        found = tokenizer.token_to_id(content) if isinstance(content, str) else None
        if found is not None:
            return found
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"])
    text = config.get("text_config")
    for values in (text if isinstance(text, dict) else {}, config):
        if isinstance(values.get("pad_token_id"), int):
            return int(values["pad_token_id"])
    raise BundleError(f"{folder}: none of {TOKENIZER_CONFIG}, {TOKENIZER} and {CONFIG} names the padding token.")
