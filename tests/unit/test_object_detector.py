"""The detector of things: from what its network says to regions, and bundles that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.tiny_detector import DOG, PEOPLE, column, write_bundle

from sightrank.vision.bundle import BundleError
from sightrank.vision.object_detector import (
    MOST_REGIONS,
    ObjectDetector,
    built_in_detector,
    load_detector_bundle,
)

GREY = np.full((30, 40, 3), 128, np.uint8)
LEFT, RIGHT = (0.0, 0.1, 0.5, 0.9), (0.5, 0.0, 1.0, 1.0)


def found(
    folder: Path,
    classes: Sequence[dict[str, Any]],
    scores: Sequence[Sequence[float]],
    boxes: Sequence[Sequence[float]],
    pixels: NDArray[np.uint8] = GREY,
) -> list[tuple[str, float, tuple[float, ...]]]:
    """What a detector with that network finds: concept, value and box (left, top, right, bottom)."""
    detector = ObjectDetector(load_detector_bundle(write_bundle(folder, classes, scores, boxes)), threads=1)
    return [
        (each.concept_id, round(each.value, 4), tuple(round(getattr(each.box, side), 4) for side in SIDES))
        for each in detector.detect(pixels)
    ]


SIDES = ("left", "top", "right", "bottom")


def test_places_above_their_threshold_are_regions_surest_first(tmp_path: Path) -> None:
    classes = [column("person", PEOPLE, threshold=0.5), column("dog", DOG, threshold=0.2)]

    regions = found(tmp_path, classes, [[0.4, 0.3], [0.6, 0.1]], [LEFT, RIGHT])

    assert regions == [(PEOPLE, 0.6, RIGHT), (DOG, 0.3, LEFT)]


def test_a_value_is_calibrated_by_scale_and_bias(tmp_path: Path) -> None:
    (region,) = found(tmp_path, [column("person", PEOPLE, scale=2.0, bias=1.0)], [[0.5]], [LEFT])

    assert region[1] == pytest.approx(1 / (1 + np.exp(-1)), abs=1e-4)


def test_one_thing_is_one_region_whatever_it_is_taken_for(tmp_path: Path) -> None:
    classes = [column("man", PEOPLE), column("woman", PEOPLE), column("dog", DOG)]

    assert found(tmp_path, classes, [[0.7, 0.8, 0.6]], [LEFT]) == [(PEOPLE, 0.8, LEFT)]
    assert found(tmp_path, classes, [[0.5, 0.2, 0.6]], [LEFT]) == [(DOG, 0.6, LEFT)]


def test_things_that_overlap_less_are_regions_of_their_own(tmp_path: Path) -> None:
    rider, horse = (0.2, 0.1, 0.8, 0.9), (0.2, 0.3, 0.8, 0.9)

    regions = found(tmp_path, [column("man", PEOPLE), column("dog", DOG)], [[0.7, 0.1], [0.1, 0.6]], [rider, horse])

    assert regions == [(PEOPLE, 0.7, rider), (DOG, 0.6, horse)]


def test_a_black_picture_has_nothing_in_it(tmp_path: Path) -> None:
    assert found(tmp_path, [column("person", PEOPLE)], [[0.9]], [LEFT], np.zeros((5, 5, 3), np.uint8)) == []


def test_boxes_end_where_the_picture_does_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    beyond = [(-0.3, 0.5, 0.4, 1.7), (1.2, 0.0, 1.5, 1.0), (0.6, 0.2, 0.6, 0.8)]

    regions = found(tmp_path, [column("person", PEOPLE)], [[0.9], [0.8], [0.7]], beyond)

    assert regions == [(PEOPLE, 0.9, (0.0, 0.5, 0.4, 1.0))]


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_a_picture_may_have_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 200, np.uint8)

    assert found(tmp_path, [column("person", PEOPLE)], [[0.9]], [LEFT], pixels) == [(PEOPLE, 0.9, LEFT)]


def test_the_number_of_regions_is_bounded(tmp_path: Path) -> None:
    boxes = [(n / 50, 0.0, (n + 1) / 50, 1.0) for n in range(50)]

    regions = found(tmp_path, [column("person", PEOPLE)], [[0.4 + n / 100] for n in range(50)], boxes)

    assert len(regions) == MOST_REGIONS
    assert [value for _, value, _ in regions] == [round(0.89 - n / 100, 4) for n in range(MOST_REGIONS)]


def test_a_bundle_that_is_damaged_or_incomplete_is_refused_by_name(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, [column("person", PEOPLE)], [[0.9]], [LEFT])
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))

    del manifest["overlap"]
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match=r"manifest.json: missing or wrong entry \('overlap'\)"):
        load_detector_bundle(folder)
    (folder / "detector.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"detector.onnx is not the file its manifest describes"):
        load_detector_bundle(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(BundleError, match=r"manifest.json cannot be read"):
        load_detector_bundle(folder)


def test_the_built_in_bundle_is_whole_and_names_public_concepts() -> None:
    from sightrank.vision.bundle import built_in_bundle
    from sightrank.vision.vocabulary import Vocabulary

    bundle = load_detector_bundle(built_in_detector())
    vocabulary = Vocabulary.load(built_in_bundle() / "vocabulary.json")

    assert bundle.id == "general-image-detection"
    assert [each.concept_id for each in bundle.classes if each.concept_id not in vocabulary] == []
    assert ObjectDetector(bundle, threads=1).detect(np.zeros((90, 120, 3), np.uint8)) == []
