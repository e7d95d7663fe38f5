"""Which of some names is nearest in meaning to a word, by the vectors that the package ``wordllama`` carries.

Its own loader looks for the tokenizer outside the package and would download it, so the two files inside the package
are read here. They take 0.2 s and 40 MB, spent at the first word that nothing else explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from tokenizers import Tokenizer

_TOKENIZER = "tokenizers/l2_supercat_tokenizer_config.json"
_WEIGHTS = "weights/l2_supercat_256.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The nearest name, and its cosine to the word."""

    name: str
    cosine: float


class WordVectors:
    """English names by their meaning. Loaded when first asked; then safe to ask from several threads."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(names)

    def nearest(self, word: str) -> Nearest | None:
        """None for a word without letters that the vectors know, or without names."""
        if not self._names:
            return None
        vector = self._embed([word])[0]
        cosines = self._vectors @ vector
        best = int(np.argmax(cosines))
        return Nearest(name=self._names[best], cosine=float(cosines[best])) if vector.any() else None

    def is_common(self, word: str) -> bool:
        """Whether the vectors have the word in one piece, as they have a language's frequent words."""
        tokenizer, _ = self._loaded
        return len(tokenizer.encode(word, add_special_tokens=False).ids) == 1

    @cached_property
    def _vectors(self) -> NDArray[np.float32]:
        return self._embed(self._names)

    @cached_property
    def _loaded(self) -> tuple[Tokenizer, NDArray[np.float16]]:
        folder = Path(str(files("wordllama")))
        tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer, load_file(folder / _WEIGHTS)["embedding.weight"]

    def _embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors [n, dims]: means of the vectors of a text's tokens; zero for a text without any."""
        tokenizer, weights = self._loaded
        vectors = np.zeros((len(texts), weights.shape[1]), np.float32)
        for row, encoded in enumerate(tokenizer.encode_batch(list(texts), add_special_tokens=False)):
            if encoded.ids:
                mean = weights[encoded.ids].astype(np.float32).mean(axis=0)
                vectors[row] = mean / np.linalg.norm(mean)
        return vectors
