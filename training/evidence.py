"""What is known about each concept in each training photo: seen, not seen, or unknown."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from training import data, teachers, views
from training.detector import COCO

YES, NO, UNKNOWN = 1, 0, -1
SURE_CLASS = 0.65
"""Probability of the classes that mean a concept, together, from which the v2 teacher is believed."""
SURE_SEEN, SURE_UNSEEN = 0.5, 0.12
"""Detector scores above and below which it is believed; photos of 104 px leave much in between."""
SURE_PEOPLE, SURE_NOBODY = 0.9, 0.15
DETECTED_AS = {"person": "people", "couch": "sofa", "dining table": "table", "tv": "television", "tie": "necktie"}
"""COCO names of concepts that are called something else in the vocabulary."""

Marks = npt.NDArray[np.int8]


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


def apply_classifier(marks: Marks, vocabulary: Vocabulary, meanings: dict[str, list[str]],
                     logits: npt.NDArray[np.float32], classes: list[str]) -> None:  # fmt: skip
    """Raise the concepts of which the v2 teacher is sure, adding up all classes that mean the same concept."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    members = np.zeros((len(classes), len(vocabulary.names)), dtype=np.float32)
    for row, name in enumerate(classes):
        members[row, vocabulary.columns(meanings.get(name, []))] = 1
    probability = weights @ members
    for column in np.flatnonzero(members.any(axis=0)):
        raise_marks(marks, probability[:, column] > SURE_CLASS, int(column))


def apply_detector(marks: Marks, vocabulary: Vocabulary, meanings: dict[str, list[str]],
                   scores: npt.NDArray[np.float32]) -> None:  # fmt: skip
    """Raise what the detector saw; lower what it would have seen. NaN rows were not looked at and stay."""
    named = {DETECTED_AS.get(name, name) for name in COCO} & set(vocabulary.names)
    by_concept: dict[str, npt.NDArray[np.float32]] = {}
    for row, name in enumerate(COCO):
        for concept in meanings.get(name, []):
            found = scores[:, row]
            by_concept[concept] = np.maximum(by_concept[concept], found) if concept in by_concept else found
    for concept, best in by_concept.items():
        for column in vocabulary.columns([concept]):
            raise_marks(marks, best > SURE_SEEN, column)
            # Only what the detector has a class for: not seeing skis says nothing about sport.
            if concept in named and concept != "people":
                lower_marks(marks, best < SURE_UNSEEN, column)


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
    apply_classifier(marks, vocabulary, label_map["teachers"]["imagenet"], teachers.logits(targets.values), classes)
    path = work / "detector-scores.npy"
    scores = np.load(path).astype(np.float32) if path.exists() else np.full((len(marks), len(COCO)), np.nan, "f")
    apply_detector(marks, vocabulary, label_map["teachers"]["coco"], scores)
    apply_people(marks, vocabulary, teachers.people_scores(teacher_dir, work), scores[:, COCO.index("person")])
    return marks
