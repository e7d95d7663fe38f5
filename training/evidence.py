"""What is known about each concept in each training photo: seen, not seen, or unknown."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training import data, teachers, views
from training.detector import COCO

YES, NO, UNKNOWN = 1, 0, -1
SURE_CLASS, SURE_NOT_CLASS = 0.65, 0.02
"""Probabilities of the classes that mean a concept, together, above and below which the v2 teacher is believed."""
SURE_SEEN, SURE_UNSEEN = 0.5, 0.12
"""Detector scores above and below which it is believed; photos of 104 px leave much in between."""
SEVERAL = 3
SURE_PEOPLE, SURE_NOBODY = 0.9, 0.15
DETECTED_AS = {"person": "people", "couch": "sofa", "dining table": "table", "tv": "television", "tie": "necktie"}
"""COCO names of concepts that are called something else in the vocabulary."""

Marks = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Vocabulary:
    """The concepts in the order of vocabulary.json."""

    ids: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return cls(tuple(entry["id"] for entry in entries), tuple(entry["name"] for entry in entries))

    def columns(self, names: list[str]) -> list[int]:
        position = {name: column for column, name in enumerate(self.names)}
        return [position[name] for name in names if name in position]


def label_key(source: str, label: str) -> str:
    """How label_map.json spells a raw label."""
    return label.split("|")[0] if source == "objects64" else label


def from_labels(vocabulary: Vocabulary, label_map: dict[str, Any], source: str, labels: list[str]) -> Marks:
    """The marks that the labels of one source give."""
    meanings: dict[str, Marks] = {}
    for key, meaning in label_map["sources"][source]["labels"].items():
        row = np.full(len(vocabulary.names), NO, dtype=np.int8)
        row[vocabulary.columns(meaning.get("maybe", []))] = UNKNOWN
        row[vocabulary.columns(meaning["yes"])] = YES
        meanings[key] = row
    unknown = np.full(len(vocabulary.names), UNKNOWN, dtype=np.int8)
    return np.stack([meanings.get(label_key(source, label), unknown) for label in labels])


def raise_marks(marks: Marks, seen: npt.NDArray[np.bool_], column: int) -> None:
    """A teacher saw the concept: unknown becomes yes; where the label says no, nobody is believed."""
    chosen = marks[:, column]
    chosen[seen & (chosen == NO)] = UNKNOWN - 1
    chosen[seen & (chosen == UNKNOWN)] = YES
    chosen[chosen < UNKNOWN] = UNKNOWN


def lower_marks(marks: Marks, unseen: npt.NDArray[np.bool_], column: int) -> None:
    """A teacher looked and did not see the concept: unknown becomes no."""
    marks[unseen & (marks[:, column] == UNKNOWN), column] = NO


def class_probabilities(
    vocabulary: Vocabulary, meanings: dict[str, list[str]], logits: Floats, classes: list[str]
) -> Floats:
    """The v2 teacher's probability of each concept: that of all classes that mean it, added up; NaN where none does."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    members = np.zeros((len(classes), len(vocabulary.names)), dtype=np.float32)
    for row, name in enumerate(classes):
        members[row, vocabulary.columns(meanings.get(name, []))] = 1
    probabilities: Floats = weights @ members
    probabilities[:, ~members.any(axis=0)] = np.nan
    return probabilities


def detected_concepts(meanings: dict[str, list[str]], scores: Floats) -> dict[str, Floats]:
    """The best detector score of all classes that mean a concept."""
    found: dict[str, Floats] = {}
    for row, name in enumerate(COCO):
        for concept in meanings.get(name, []):
            found[concept] = np.maximum(found.get(concept, scores[:, row]), scores[:, row])
    return found


def apply_things(
    marks: Marks, vocabulary: Vocabulary, classes: Floats, meanings: dict[str, list[str]], scores: Floats
) -> None:
    """Raise what either network is sure of; lower what the detector would have seen.

    The detector knows a concept when it has a class of that very name. Of a wider concept it is believed only if it has
    several classes for it (a potted plant is not all plants) and the classifier sees nothing of it either. NaN is "not
    looked"; it changes nothing.
    """
    named = {DETECTED_AS.get(name, name) for name in COCO}
    breadth = Counter(concept for name in COCO for concept in meanings.get(name, []))
    detected = detected_concepts(meanings, scores)
    for column, concept in enumerate(vocabulary.names):
        if concept == "people":
            continue
        raise_marks(marks, classes[:, column] > SURE_CLASS, column)
        if concept in detected:
            raise_marks(marks, detected[concept] > SURE_SEEN, column)
            absent = detected[concept] < SURE_UNSEEN
            if concept not in named:
                absent &= (classes[:, column] < SURE_NOT_CLASS) & (breadth[concept] >= SEVERAL)
            lower_marks(marks, absent, column)


def apply_people(marks: Marks, vocabulary: Vocabulary, vww: npt.NDArray[np.float32],
                 detected: npt.NDArray[np.float32]) -> None:  # fmt: skip
    """People by both networks: either may be sure of them, both must agree that there are none."""
    people, nobody = vocabulary.columns(["people"])[0], vocabulary.columns(["no person"])[0]
    quiet = np.nan_to_num(detected, nan=0.0)
    raise_marks(marks, (vww > SURE_PEOPLE) | (quiet > SURE_SEEN), people)
    lower_marks(marks, (vww < SURE_NOBODY) & (quiet < SURE_UNSEEN), people)
    marks[:, nobody] = complement(marks[:, people])


def complement(marks: Marks) -> Marks:
    """Yes where the other is no, no where it is yes."""
    return np.where(marks == UNKNOWN, UNKNOWN, 1 - marks).astype(np.int8)


def of_collages(marks: Marks, vocabulary: Vocabulary, drawn: views.Views) -> Marks:
    """What the collages show: all of the front photo, perhaps (in a blend surely) what the one behind shows."""
    behind = marks[drawn.partner]
    behind_counts = np.where((behind == YES) & (drawn.kind == views.PASTE)[:, None], UNKNOWN, behind)
    mixed = np.where((marks == UNKNOWN) | (behind_counts == UNKNOWN), UNKNOWN, NO)
    mixed[(marks == YES) | (behind_counts == YES)] = YES
    people, nobody = vocabulary.columns(["people"])[0], vocabulary.columns(["no person"])[0]
    mixed[:, nobody] = complement(mixed[:, people])
    return mixed.astype(np.int8)


def gather(photo_dir: Path, work: Path, vocabulary: Vocabulary, label_map: dict[str, Any]) -> Marks:
    """The marks of all training photos, [photos, concepts]."""
    train = data.load_train(work)
    marks = np.full((len(train.labels), len(vocabulary.names)), UNKNOWN, dtype=np.int8)
    for source in data.TRAIN_SOURCES:
        members = np.flatnonzero(train.sources == source)
        marks[members] = from_labels(vocabulary, label_map, source, train.labels[members].tolist())
    teacher_dir = photo_dir / "teachers"
    classes = (teacher_dir / "imagenet_labels.txt").read_text().splitlines()
    targets = teachers.open_targets(work, "v2", "full", len(marks), "r")
    known = class_probabilities(vocabulary, label_map["teachers"]["imagenet"], teachers.logits(targets.values), classes)
    path = work / "detector-scores.npy"
    scores = np.load(path).astype(np.float32) if path.exists() else np.full((len(marks), len(COCO)), np.nan, "f")
    apply_things(marks, vocabulary, known, label_map["teachers"]["coco"], scores)
    apply_people(marks, vocabulary, teachers.people_scores(teacher_dir, work), scores[:, COCO.index("person")])
    return marks
