"""Dual encoders from the Hub: pictures and texts to unit vectors of one space."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sightrank.vision.bundle import BundleError
from sightrank.vision.decode import Pixels
from sightrank.vision.embedder import BATCH_SIZES, batch_size_for
from sightrank.vision.hub_files import CONFIG, layout_of, read_json
from sightrank.vision.hub_preprocessing import HubPreprocessing
from sightrank.vision.session import Provider, open_session
from sightrank.vision.text_tower import HubTextEncoder
from sightrank.vision.tower import Tower


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How likely a text describes a picture: sigmoid(scale * cos + bias). Without ``bias``, cosines only compare."""

    scale: float
    bias: float | None


# The networks on the Hub end before the link, so it is taken from the published weights of each family: CLIP and its
# kin stop at a scale of 100; scale and bias here are those of SigLIP base, which its larger sisters come near.
_CLIP_LINK = Link(scale=100.0, bias=None)
_SIGLIP_LINK = Link(scale=117.33, bias=-12.93)
# Weights hold the logarithm of the scale. No scale in use is as small as this, and no logarithm as large.
_LARGEST_LOG_SCALE = 10.0


class HubImageEncoder:
    """The picture tower (an ImageEncoder)."""

    def __init__(self, tower: Tower, preprocessing: HubPreprocessing) -> None:
        self._tower = tower
        self._preprocessing = preprocessing
        self.size = preprocessing.size
        self.provider = tower.provider
        for side in (tower.fixed("pixel_values", 2), tower.fixed("pixel_values", 3)):
            if side not in {None, self.size}:
                raise BundleError(f"{tower.path} takes pictures of {side} pixels, its preprocessing makes {self.size}.")
        self._fixed_count = tower.fixed("pixel_values", 0)
        self.dims = self._run(np.zeros((1, self.size, self.size, 3), np.uint8), self._fixed_count or 1).shape[1]

    def fit(self, pixels: Pixels) -> Pixels:
        """As the model's own files say: resized, the middle cut out."""
        return self._preprocessing.fit(pixels)

    def embed(self, pixels: Pixels) -> NDArray[np.float32]:
        """[n, size, size, 3] RGB to unit vectors [n, dims]; any n, run in batches of at most 16."""
        vectors = np.empty((len(pixels), self.dims), np.float32)
        start = 0
        while start < len(pixels):
            size = self._fixed_count or batch_size_for(len(pixels) - start)
            part = pixels[start : start + size]
            vectors[start : start + len(part)] = self._run(part, size)
            start += len(part)
        return vectors

    def warm_up(self) -> None:
        """Runs every batch size once, so that the first user does not wait for it."""
        for count in BATCH_SIZES:
            self.embed(np.zeros((count, self.size, self.size, 3), np.uint8))

    def _run(self, pixels: Pixels, count: int) -> NDArray[np.float32]:
        batch = np.zeros((count, 3, self.size, self.size), np.float32)
        batch[: len(pixels)] = self._preprocessing.normalize(pixels)
        # A network with both towers wants a text as well; which one does not matter.
        text = np.ones((self._tower.fixed("input_ids", 0) or 1, self._tower.fixed("input_ids", 1) or 2), np.int64)
        values: dict[str, NDArray[Any]] = {
            "pixel_values": batch,
            "input_ids": text,
            "attention_mask": text,
            "token_type_ids": 0 * text,
        }
        return self._tower.run(values)[: len(pixels)]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DualEncoder:
    """Both towers and their link; ``precision`` is that of the files that were taken."""

    images: HubImageEncoder
    texts: HubTextEncoder
    link: Link
    precision: str


def load_dual_encoder(
    folder: Path, *, threads: int, provider: Provider = "cpu", precision: str | None = None
) -> DualEncoder:
    """Opens the dual encoder in a folder of the Transformers.js layout (CLIP, SigLIP, MobileCLIP …).

    Raises BundleError when files are missing or of an unknown kind, or when the towers' vectors differ in length.
    """
    layout = layout_of(folder, precision)
    config = read_json(folder, CONFIG)
    preprocessing = HubPreprocessing.read(folder)
    # A network with both towers is opened once: its weights are the most of a model.
    sessions = {
        name: open_session(folder / name, threads=threads, provider=provider) for name in {layout.vision, layout.text}
    }
    vision = Tower(sessions[layout.vision], folder / layout.vision, wanted="image_embeds")
    text = Tower(sessions[layout.text], folder / layout.text, wanted="text_embeds")
    images = HubImageEncoder(vision, preprocessing)
    texts = HubTextEncoder(text, folder, config, picture_side=images.size)
    if images.dims != texts.dims:
        raise BundleError(
            f"{folder}: pictures become vectors of {images.dims} numbers and texts of {texts.dims}; they must agree."
        )
    return DualEncoder(images=images, texts=texts, link=read_link(config), precision=layout.precision)


def read_link(config: dict[str, Any]) -> Link:
    """What ``config.json`` says (``logit_scale`` may be a logarithm), and the family's values for the rest."""
    family = _SIGLIP_LINK if "siglip" in str(config.get("model_type", "")).lower() else _CLIP_LINK
    scale, bias = config.get("logit_scale"), config.get("logit_bias")
    if not isinstance(scale, int | float) or not math.isfinite(scale):
        scale = family.scale
    elif scale < _LARGEST_LOG_SCALE:
        scale = math.exp(scale)
    return Link(scale=float(scale), bias=float(bias) if isinstance(bias, int | float) else family.bias)
