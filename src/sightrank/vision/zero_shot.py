"""Taggers without training: a concept's name, put into sentences, is its direction among the pictures.

The sentences of a name are encoded and averaged. Two kinds of dual encoders need two kinds of calibration:

- With a bias (SigLIP) the model itself says how likely a sentence fits: p = sigmoid(scale * cos + bias).
- Without one (CLIP) a cosine means little: fitting sentences reach about 0.3, any sentence about 0.2, and a picture's
  level is its own. So a concept's direction is its sentences less neutral ones ("a photo"), which takes that level
  away; the concept must then beat the neutral by a margin of cosine to be likelier than not. The scale is half the
  model's, which made for picking one of many captions and is too sure of itself as a yes or no. A cosine 0.05 above
  neutral then gives p = 0.82, equal to it 0.27, and 0.04 below it 0.05.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

from sightrank.vision.encoder import TextEncoder
from sightrank.vision.hub_encoder import Link
from sightrank.vision.tagger import Tagger
from sightrank.vision.vocabulary import Vocabulary

TEMPLATES = ("a photo of {}.", "this is a photo of {}.", "a picture showing {}.", "{}")
NEUTRAL = ("a photo.", "this is a photo.", "a picture.", "an image of something.")

_MARGIN = 0.02
_SHARE_OF_SCALE = 0.5
_FORM = "1"  # changes with the calibration, so that kept taggers are made again

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ConceptRows:
    """For each name a unit direction, a scale and a bias, as a Tagger takes them."""

    directions: NDArray[np.float32]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]


def concept_rows(names: Sequence[str], encoder: TextEncoder, link: Link) -> ConceptRows:
    """The rows of any names, in the languages the encoder reads. Takes one run of it for every few names."""
    prompts = [template.format(name) for name in names for template in TEMPLATES]
    means = encoder.encode(prompts).reshape(len(names), len(TEMPLATES), encoder.dims).mean(axis=1)
    directions = _unit(means)
    if link.bias is not None:
        scale = np.full(len(names), link.scale, np.float32)
        return ConceptRows(directions=directions, scale=scale, bias=np.full(len(names), link.bias, np.float32))
    contrasts = directions - _unit(encoder.encode(NEUTRAL).mean(axis=0, keepdims=True))
    sharpness = _SHARE_OF_SCALE * link.scale
    return ConceptRows(
        directions=_unit(contrasts),
        scale=(sharpness * np.linalg.norm(contrasts, axis=1)).astype(np.float32),
        bias=np.full(len(names), -sharpness * _MARGIN, np.float32),
    )


def zero_shot_tagger(vocabulary: Vocabulary, encoder: TextEncoder, link: Link, *, version: str, folder: Path) -> Tagger:
    """A tagger of the whole vocabulary by its English names.

    It takes a while to make, so it is kept in ``folder`` until the vocabulary, the prompts or the text tower
    (``version``) change. Where the folder cannot be written it is made at every start.
    """
    terms = list(vocabulary)
    names = [(term.id, term.name) for term in terms]
    what = json.dumps([_FORM, version, link.scale, link.bias, _MARGIN, _SHARE_OF_SCALE, TEMPLATES, NEUTRAL, names])
    path = folder / f"zero-shot-{hashlib.sha256(what.encode()).hexdigest()[:16]}.npz"
    ids = [term.id for term in terms]
    rows = _kept(path, len(ids), encoder.dims)
    if rows is None:
        rows = concept_rows([term.name for term in terms], encoder, link)
        _keep(path, rows)
    return Tagger(ids, rows.directions, rows.scale, rows.bias)


def _kept(path: Path, count: int, dims: int) -> ConceptRows | None:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            rows = ConceptRows(directions=arrays["directions"], scale=arrays["scale"], bias=arrays["bias"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        _log.warning("a kept tagger cannot be read and is made again", path=str(path), error=str(error))
        return None
    fits = rows.directions.shape == (count, dims) and rows.scale.shape == rows.bias.shape == (count,)
    return rows if fits else None


def _keep(path: Path, rows: ConceptRows) -> None:
    try:
        for old in path.parent.glob("zero-shot-*.npz"):
            old.unlink(missing_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".zero-shot-", delete=False) as file:
            np.savez(file, directions=rows.directions, scale=rows.scale, bias=rows.bias)
        os.replace(file.name, path)
    except OSError as error:
        _log.warning("the tagger cannot be kept and is made at every start", path=str(path), error=str(error))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row without direction stays zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
