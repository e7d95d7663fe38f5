"""The detector's model card: what it is, what made it, how good its boxes are, and where it fails."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sightrank.vision.detector import Detection
from sightrank.vision.object_detector import DetectorBundle, ObjectDetector, load_detector_bundle
from sightrank.vision.vocabulary import Vocabulary
from training.detection import score, searches
from training.detection.calibrate import LEAST_KNOWN, LEAST_PRECISION, Evidence
from training.detection.teacher import Found, Teacher
from training.detector import COCO
from training.report import Report

SOURCES = [
    "MiniPlaces (research use)",
    "Tiny-ImageNet (research use)",
    "cats and dogs (terms not stated: treat as research use)",
    "clothing dataset (CC0)",
    "grocery store dataset (MIT)",
    "boxes by NanoDet-m (Apache-2.0)",
    "a trunk started from the bundle `general`, whose card names its sources",
]
LARGE = 0.04
FEW = 5
HEAD = """# Model card: `general-image-detection`

A small detector of people and common things. Its boxes become regions of an app's inputs where the app's workflow is
`General-Detection`; each region gets a vector and tags of its own.

| | |
| --- | --- |
| version | {version} |
| finds | {count} concepts, named below |
| input | the whole picture squashed to {side} x {side}, RGB |
| network | the residual trunk of `general`, a pyramid of 3 levels with 64 channels, one head for all levels |
| file | `detector.onnx` {size:.1f} MB (convolutions in int8; gates, heads and boxes in float32) |
| speed | {speed:.1f} ms a picture on one core of the machine it was measured on, decoding not included |
| licence | Apache-2.0 for the files; see the sources |

## Sources

Photos: 20,000 of MiniPlaces (research use), 24,000 of Tiny-ImageNet (research use), 1,000 of cats and dogs (terms not
stated: treat as research use), 3,068 garments (CC0), 2,936 groceries (MIT). None of them came with boxes: **all boxes
are NanoDet-m's** (Apache-2.0, trained on COCO), so this network repeats that one's mistakes and cannot be better. Its
trunk starts from the weights of `general`, whose card names what trained those. No weights of NanoDet are in the file.

## How it was made

The photos are small (64 to 112 pixels on their short side) and mostly show small things. Training draws pictures of
192 pixels from them: windows around single boxes, collages of up to four windows, sharpened, tinted and re-coded
differently each time. Places are matched to boxes as in TOOD, classes learnt by the quality focal loss, boxes by
generalised intersection over union; what the teacher is not sure of is neither learnt nor called empty. The shipped
weights are a running average. `python -m training.detection` and `python -m training.detection.bundle` make it again.

One photo in twenty was held out. Pictures drawn from those chose which classes are shipped (from {known} known boxes
and an average precision of {least} on), fitted each class's calibration (Platt) and the value from which a box is
shown. **No such choice was made on the photographs measured below**; the size of the input and the length of training
were settled on while looking at them.

## Limits

- It sees coarsely: 192 x 192, squashed. Things smaller than a fifth of the picture's side are mostly missed.
- It was taught with crops of small photos. On full photographs it finds fewer things than the teacher, and boxes are
  less tight. Values are calibrated on pictures like those of training, not on photographs: take their order more
  seriously than their size.
- `people` means a person seen whole or in part. How it does for different groups of people was not measured. Do not
  use it to decide anything about a person, or to count a crowd.
- A picture has at most 20 regions. What is found as several things in one place is shown as the likeliest: buses mostly
  come out as trains or trucks.

## Measured

"""


@dataclass(frozen=True)
class Judged:
    """The boxes of one detector over the measured photos, by concept."""

    truth: list[Found]
    ours: list[Found]
    teacher: list[Found]


def write(folder: Path, photo_dir: Path, evidence: Sequence[Evidence]) -> None:
    """Measure the bundle in `folder` and write its card."""
    bundle = load_detector_bundle(folder)
    report = Report()
    photos = score.known(photo_dir / "photos.zip")
    pictures = [pixels for pixels, _ in photos]
    ours, speed = _looked(bundle, pictures)
    teacher = Teacher(photo_dir / "teachers", (320,))
    judged = Judged([each for _, each in photos], ours, [teacher.look(picture, 0.05) for picture in pictures])
    _photographs(report, bundle, judged)
    _searches(report, bundle, pictures, judged.truth)
    _held_out(report, bundle, evidence)
    head = HEAD.format(
        version=bundle.version,
        count=len({each.concept_id for each in bundle.classes}),
        side=bundle.preprocessing.size,
        size=bundle.network.stat().st_size / 1e6,
        speed=speed,
        known=LEAST_KNOWN,
        least=LEAST_PRECISION,
    )
    foot = f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d} by `python -m training.detection.bundle`."
    (folder / "MODEL_CARD.md").write_text(head + "\n".join([*report.lines, foot]) + "\n", encoding="utf-8")


def _looked(bundle: DetectorBundle, pictures: Sequence[npt.NDArray[np.uint8]]) -> tuple[list[Found], float]:
    """What the shipped runtime shows, concept numbers for classes; milliseconds a picture."""
    detector = ObjectDetector(bundle, threads=1)
    detector.warm_up()
    numbers = {concept_id: number for number, concept_id in enumerate(detector.concept_ids)}
    spent, found = [], []
    for picture in pictures:
        started = time.perf_counter()
        detections = detector.detect(picture)
        spent.append(time.perf_counter() - started)
        found.append(_as_found(detections, numbers))
    return found, 1000 * float(np.median(spent))


def _as_found(detections: Sequence[Detection], numbers: dict[str, int]) -> Found:
    boxes = [(each.box.left, each.box.top, each.box.right, each.box.bottom) for each in detections]
    return Found(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array([numbers[each.concept_id] for each in detections], np.int64),
        np.array([each.value for each in detections], np.float32),
    )


def _photographs(report: Report, bundle: DetectorBundle, judged: Judged) -> None:
    """By concept, against known boxes of photographs from another source."""
    concepts = list(dict.fromkeys(each.concept_id for each in bundle.classes))
    names = Vocabulary.load(Path(__file__).parents[2] / "src/sightrank/general/vocabulary.json")
    report.say(
        "128 photographs of COCO val2017, which trained nothing here. *Shown* are the boxes that the server shows;"
        " *right* is how many of them meet a known box by half, *found* how many known boxes they meet, *large* the"
        f" same for boxes of {LARGE:.0%} of the photograph and more. *In photo*: average precision of finding the"
        " photographs that have one. The last column is NanoDet-m at 320 pixels with all its boxes, the ceiling."
    )
    report.say()
    rows = []
    for number, concept_id in enumerate(concepts):
        members = [COCO.index(each.label) for each in bundle.classes if each.concept_id == concept_id]
        count = sum(int(np.isin(each.classes, members).sum()) for each in judged.truth)
        if count >= FEW:
            rows.append((count, _row(names.name(concept_id), judged, number, members, count)))
    rows.sort(key=lambda row: -row[0])
    report.table(
        ["concept", "known", "shown", "right", "found", "large", "in photo", "teacher"], [row for _, row in rows]
    )


def _row(name: str, judged: Judged, number: int, members: list[int], count: int) -> list[str]:
    own = [Found(e.boxes, np.where(e.classes == number, members[0], -1), e.scores) for e in judged.ours]
    scores, right, known = score.of_class(judged.truth, own, members)
    met, large = score.large_recall(judged.truth, own, members, share=LARGE, least=0.0)
    return [
        name,
        str(count),
        str(len(scores)),
        f"{right.mean():.2f}" if len(scores) else "-",
        f"{right.sum() / known:.2f}",
        f"{met}/{large}",
        f"{score.in_photo(judged.truth, own, members):.2f}",
        f"{score.in_photo(judged.truth, judged.teacher, members):.2f}",
    ]


def _searches(
    report: Report, bundle: DetectorBundle, pictures: Sequence[npt.NDArray[np.uint8]], truth: Sequence[Found]
) -> None:
    """What the regions are for."""
    names = Vocabulary.load(Path(__file__).parents[2] / "src/sightrank/general/vocabulary.json")
    labels: dict[str, list[str]] = {}
    for each in bundle.classes:
        labels.setdefault(each.concept_id, []).append(each.label)
    report.say(
        "The same photographs ranked by `General`'s tagger: by the whole photograph, as an app of `General` ranks them,"
        " and by the best of the whole and its regions, as one of `General-Detection` does. Average precision, ROC AUC:"
    )
    report.say()
    rows = [
        [names.name(concept_id), str(count), *(f"{precision:.2f}, {area:.2f}" for precision, area in (before, after))]
        for concept_id, count, before, after in searches.compare(
            ObjectDetector(bundle, threads=1), pictures, truth, labels
        )
    ]
    report.table(["concept", "photographs", "General", "General-Detection"], sorted(rows, key=lambda row: -int(row[1])))


def _held_out(report: Report, bundle: DetectorBundle, evidence: Sequence[Evidence]) -> None:
    """By class, over the pictures drawn from photos that were held out: what the choices were made by."""
    report.say("Pictures drawn from the photos that were held out, with the teacher's boxes for truth:")
    report.say()
    rows = [
        [each.label, str(found.known), f"{found.average_precision:.2f}", f"{each.threshold:.2f}"]
        for each, found in sorted(zip(bundle.classes, evidence, strict=True), key=lambda pair: -pair[1].known)
    ]
    report.table(["class", "known", "average precision", "shown from"], rows)
