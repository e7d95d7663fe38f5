"""What regions do for searches: photographs ranked by the whole picture, and by the best of it and its regions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from sightrank.vision import decode
from sightrank.vision.bundle import built_in_bundle, load_bundle
from sightrank.vision.embedder import Embedder
from sightrank.vision.object_detector import ObjectDetector
from sightrank.vision.tagger import Tagger
from training.detection.teacher import Found
from training.detector import COCO

Floats = npt.NDArray[np.float32]
LEAST_PHOTOS = 5


def compare(
    detector: ObjectDetector,
    pictures: Sequence[npt.NDArray[np.uint8]],
    truth: Sequence[Found],
    names: dict[str, list[str]],
) -> Iterator[tuple[str, int, tuple[float, float], tuple[float, float]]]:
    """For each concept id: the photographs that show it, and (average precision, ROC AUC) without and with regions.

    ``names``: concept id to COCO's classes that show it.
    """
    bundle = load_bundle(built_in_bundle())
    tagger, embedder = Tagger.load(bundle), Embedder(bundle, threads=1)
    whole = np.zeros((len(pictures), len(tagger.ids)), np.float32)
    best = np.zeros_like(whole)
    for row, picture in enumerate(pictures):
        cuts = [each.box for each in detector.detect(picture)]
        parts = [picture, *(decode.crop(picture, box.top, box.left, box.bottom, box.right) for box in cuts)]
        values = tagger.probabilities(embedder.embed(np.stack([embedder.fit(part) for part in parts])))
        whole[row], best[row] = values[0], values.max(axis=0)
    for concept_id, labels in names.items():
        members = [COCO.index(label) for label in labels]
        shows = np.array([bool(np.isin(each.classes, members).any()) for each in truth])
        if concept_id in tagger.ids and LEAST_PHOTOS <= shows.sum() < len(shows):
            column = tagger.ids.index(concept_id)
            yield concept_id, int(shows.sum()), _both(shows, whole[:, column]), _both(shows, best[:, column])


def _both(shows: npt.NDArray[np.bool_], values: Floats) -> tuple[float, float]:
    return float(average_precision_score(shows, values)), float(roc_auc_score(shows, values))
