"""Taggers made of prompts: any names, calibrated for both kinds of dual encoders, kept beside the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.tiny_models import write_tiny_model

from sightrank.vision.bundle import built_in_bundle, load_bundle
from sightrank.vision.hub_encoder import Link, load_dual_encoder
from sightrank.vision.tagger import Tagger
from sightrank.vision.vocabulary import Term, Vocabulary
from sightrank.vision.zero_shot import NEUTRAL, TEMPLATES, concept_rows, zero_shot_tagger

CLIP = Link(scale=100.0, bias=None)
SIGLIP = Link(scale=117.33, bias=-12.93)
#: Shares of a concept's own axis in its sentences, as far from the neutral ones as in trained CLIPs.
OWN, SHARED = 0.45, float(np.sqrt(1 - 0.45**2))


class Reader:
    """Each name has an axis of its own beside one that all sentences share. Counts the texts it is asked for."""

    dims = 8

    def __init__(self, *names: str) -> None:
        self.names = names
        self.count = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.count += len(texts)
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> NDArray[np.float32]:
        vector = np.zeros(self.dims, np.float32)
        found = [place for place, name in enumerate(self.names) if name in text]
        vector[0] = SHARED if found else 1.0
        for place in found:
            vector[1 + place] = OWN
        return vector


def picture(*, level: float, own: float, axis: int = 0) -> NDArray[np.float32]:
    """A picture whose cosine with all sentences is about ``level``, and that shows the concept of that axis."""
    vector = np.zeros(Reader.dims, np.float32)
    vector[0], vector[1 + axis] = level, own
    vector[-1] = np.sqrt(1 - level**2 - own**2)
    return vector[None]


def vocabulary(*names: str) -> Vocabulary:
    return Vocabulary(
        Term(id=f"ai_{name}", names=MappingProxyType({"en": name}), hypernyms=(), definition="") for name in names
    )


def test_every_template_is_asked_for_every_name_and_the_rows_are_unit() -> None:
    reader = Reader("dog", "cat")
    rows = concept_rows(["dog", "cat"], reader, CLIP)
    assert reader.count == 2 * len(TEMPLATES) + len(NEUTRAL)
    assert np.allclose(np.linalg.norm(rows.directions, axis=1), 1)
    assert rows.scale.shape == rows.bias.shape == (2,)


@pytest.mark.parametrize("level", [0.15, 0.2, 0.25])
def test_without_a_bias_what_is_shown_is_likely_and_the_rest_is_not(level: float) -> None:
    """Whatever the level at which all sentences fit a picture."""
    rows = concept_rows(["dog", "cat"], Reader("dog", "cat"), CLIP)
    tagger = Tagger(["dog", "cat"], rows.directions, rows.scale, rows.bias)
    dog, cat = tagger.probabilities(picture(level=level, own=0.22))[0]
    assert dog > 0.75
    assert cat < 0.25


def test_without_a_bias_p_is_what_is_documented_for_its_distance_to_the_neutral() -> None:
    rows = concept_rows(["dog"], Reader("dog"), CLIP)
    tagger = Tagger(["dog"], rows.directions, rows.scale, rows.bias)

    def p(distance: float) -> float:
        own = (distance + 0.2 * (1 - SHARED)) / OWN
        return float(tagger.probabilities(picture(level=0.2, own=own))[0, 0])

    assert p(0.05) == pytest.approx(0.82, abs=0.01)
    assert p(0.0) == pytest.approx(0.27, abs=0.01)
    assert p(-0.04) == pytest.approx(0.05, abs=0.01)


def test_with_a_bias_p_is_what_the_model_itself_says() -> None:
    reader = Reader("dog")
    rows = concept_rows(["dog"], reader, SIGLIP)
    tagger = Tagger(["dog"], rows.directions, rows.scale, rows.bias)
    shown = picture(level=0.05, own=0.2)
    cosine = float((reader.encode(["a dog"]) @ shown.T)[0, 0])
    expected = 1 / (1 + np.exp(-(117.33 * cosine - 12.93)))
    assert tagger.probabilities(shown)[0, 0] == pytest.approx(expected, rel=1e-3)


def test_a_name_like_the_neutral_has_no_direction_and_no_nan() -> None:
    rows = concept_rows(["nothing"], Reader("dog"), CLIP)
    assert np.isfinite(rows.directions).all()
    assert rows.scale[0] == pytest.approx(0, abs=1e-3)


def test_a_tagger_is_made_once_and_again_when_names_or_the_tower_change(tmp_path: Path) -> None:
    reader = Reader("dog", "cat")

    def make(version: str, *names: str) -> Tagger:
        return zero_shot_tagger(vocabulary(*names), reader, CLIP, version=version, folder=tmp_path)

    first = make("1", "dog", "cat")
    asked = reader.count
    again = make("1", "dog", "cat")
    assert reader.count == asked
    shown = picture(level=0.2, own=0.2)
    assert np.array_equal(first.probabilities(shown), again.probabilities(shown))
    assert again.ids == ("ai_dog", "ai_cat")
    make("2", "dog", "cat")
    assert reader.count == 2 * asked
    make("2", "dog")
    assert reader.count > 2 * asked
    assert len(list(tmp_path.iterdir())) == 1


def test_a_damaged_kept_tagger_is_made_again(tmp_path: Path) -> None:
    reader = Reader("dog")
    zero_shot_tagger(vocabulary("dog"), reader, CLIP, version="1", folder=tmp_path)
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", b"nonsense", whole[: len(whole) // 2]):
        kept.write_bytes(damaged)
        asked = reader.count
        tagger = zero_shot_tagger(vocabulary("dog"), reader, CLIP, version="1", folder=tmp_path)
        assert reader.count > asked
        assert tagger.row("ai_dog") is not None


def test_a_folder_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    tagger = zero_shot_tagger(vocabulary("dog"), Reader("dog"), CLIP, version="1", folder=tmp_path / "missing")
    assert tagger.row("ai_dog") is not None


@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_a_model_tags_the_whole_vocabulary(tmp_path: Path, family: str) -> None:
    public = Vocabulary.load(load_bundle(built_in_bundle()).vocabulary)
    encoder = load_dual_encoder(write_tiny_model(tmp_path, family), threads=1)
    tagger = zero_shot_tagger(public, encoder.texts, encoder.link, version="1", folder=tmp_path)
    assert len(tagger.ids) == len(public)
    p = tagger.probabilities(encoder.images.embed(np.zeros((1, 32, 32, 3), np.uint8)))
    assert p.shape == (1, len(public))
    assert np.isfinite(p).all()
