"""Measure the bundle on photos that trained nothing: retrieval, concepts, calibration, speed."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from training import bundle, card, compare, data, evidence, export, hierarchy, quality, tagger
from training.quality import Judged, Measure
from training.report import Report

SHOWN_ON_PHOTOS = ("people", "dog", "cat", "car", "bus", "train", "boat", "horse", "bird", "chair", "bed", "pizza",
                   "bicycle", "motorcycle", "airplane", "elephant", "sheep", "cow", "television", "vehicle", "animal",
                   "food", "furniture")  # fmt: skip

Floats = npt.NDArray[np.float32]


def judge_photos(photo_dir: Path, session: onnxruntime.InferenceSession, side: int, fitted: tagger.Tagger,
                 vocabulary: evidence.Vocabulary) -> Judged:  # fmt: skip
    """The COCO photos; a concept is present when a box of one of its classes is, `no person` where no person is."""
    label_map = json.loads((Path(__file__).parent / "label_map.json").read_text(encoding="utf-8"))
    pixels, labels = data.load_eval(photo_dir / "photos.zip", side)
    marks = np.zeros((len(labels), len(vocabulary.ids)), dtype=np.int8)
    for row, label in enumerate(labels):
        for box in json.loads(label):
            marks[row, vocabulary.columns(label_map["teachers"]["coco"].get(box[0], []))] = evidence.YES
    people, nobody = vocabulary.columns(["people", "no person"])
    marks[:, nobody] = evidence.complement(marks[:, people])
    columns = [vocabulary.ids.index(str(each)) for each in fitted.ids]
    return Judged(fitted.probabilities(bundle.vectors_of(session, pixels)), marks[:, columns])


def concept_rows(measures: Mapping[int, Measure], names: Sequence[str]) -> list[list[str]]:
    """Name, positives, average precision, ROC AUC and precision at 5 of each concept that can be measured."""
    return [
        [names[column], str(each.positives), f"{each.average_precision:.2f}", f"{each.roc_auc:.2f}",
         f"{each.precision_at_5:.1f}"]
        for column, each in measures.items()
    ]  # fmt: skip


def verdicts(report: Report, names: Mapping[str, str], measured: Mapping[str, Mapping[str, Measure]]) -> None:
    """Which concepts are weak, and which nothing measures."""
    found: dict[str, list[str]] = {}
    for identity, name in names.items():
        found.setdefault(quality.verdict(measured.get(identity, {})), []).append(name)
    report.say(
        f"Of the {len(names)} concepts {len(found['good'])} are good wherever they were measured. One is weak where\n"
        f"its average precision is below {quality.LEAST_AVERAGE_PRECISION} or its ROC AUC below"
        f" {quality.LEAST_ROC_AUC}, and measured where at least {quality.LEAST_POSITIVES} photos show it.\n"
        "`quality.json` holds the figures, `sightrank models concepts` shows them.\n"
    )
    for kind in ("weak", "weak on photographs", "unmeasured"):
        listed = found.get(kind, [])
        report.say(f"- {kind} ({len(listed)}): {', '.join(listed)}")
    report.say()


def reliability(report: Report, judged: Judged, title: str) -> None:
    """How often a predicted probability comes true, over all concepts."""
    known = judged.marks != evidence.UNKNOWN
    p, truth = judged.probabilities[known], judged.marks[known]
    edges = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 1.0001]
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = (p >= low) & (p < high)
        if inside.any():
            rows.append([f"{low:.2f} to {min(high, 1):.2f}", str(int(inside.sum())), f"{p[inside].mean():.3f}",
                         f"{truth[inside].mean():.3f}"])  # fmt: skip
    report.say(f"Calibration, {title}:\n")
    report.table(["predicted", "cases", "mean prediction", "came true"], rows)


def speed(report: Report, path: Path, side: int) -> None:
    """Milliseconds per photo on one thread, the median of some runs."""
    session = export.session(path)
    rows = []
    for count in (1, 16):
        pixels = np.zeros((count, 3, side, side), dtype=np.float32)
        taken = []
        for _ in range(24):
            started = time.perf_counter()
            session.run(["embedding"], {"pixels": pixels})
            taken.append((time.perf_counter() - started) / count * 1000)
        rows.append([str(count), f"{np.median(taken):.1f}", f"{min(taken):.1f}"])
    report.table(["batch", "ms a photo, median", "best"], rows)


def evaluate(photo_dir: Path, folder: Path, ceiling: bool) -> Report:
    """All measurements of a bundle; those of its concepts are written into it."""
    side = json.loads((folder / "manifest.json").read_text())["preprocessing"]["size"]
    session = export.session(folder / "embedder.onnx")
    fitted = tagger.Tagger.read(folder / "tagger.npz")
    vocabulary = evidence.Vocabulary.read(folder / "vocabulary.json")
    name_of = dict(zip(vocabulary.ids, vocabulary.names, strict=True))
    ids = [str(each) for each in fitted.ids]
    names = [name_of[identity] for identity in ids]
    own = compare.bundle_vectors(photo_dir, session, side)
    held_out = compare.judge(fitted, own, compare.truths(photo_dir, vocabulary), vocabulary)
    photographs = judge_photos(photo_dir, session, side, fitted, vocabulary)
    measured = quality.by_concept(ids, {quality.EVALUATION: held_out, quality.PHOTOGRAPHS: photographs})
    quality.write(folder, vocabulary.ids, measured)
    report = Report()
    compare.compare(report, photo_dir, folder, own, ceiling)
    verdicts(report, name_of, measured)
    head = ["concept", "positives", "average precision", "ROC AUC", "precision at 5"]
    report.say("Concepts on full photographs (128 COCO photos, truth from boxes):\n")
    report.table(head, concept_rows(photographs.measures(1), names))
    measures = held_out.measures(quality.LEAST_POSITIVES)
    average, area = quality.means(measures)
    before = json.loads(compare.FIRST.read_text(encoding="utf-8"))["tagger"]
    report.say(
        f"Concepts on the evaluation sets: {len(measures)} measured, mean average precision {average:.2f} (first bundle"
        f" {before['average_precision']:.2f}),\nmean ROC AUC {area:.2f} ({before['roc_auc']:.2f}).\n"
    )
    report.table(head, concept_rows(measures, names))
    sets = {"evaluation sets": held_out, "COCO photos": photographs}
    hierarchy.contradictions(report, hierarchy.Hierarchy.read(folder, ids), sets)
    reliability(report, held_out, "evaluation sets")
    boxed = [names.index(n) for n in SHOWN_ON_PHOTOS if n in names]
    shown = Judged(photographs.probabilities[:, boxed], photographs.marks[:, boxed])
    reliability(report, shown, "COCO photos")
    speed(report, folder / "embedder.onnx", side)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--no-ceiling", action="store_true", help="leave out the teachers, which take a minute")
    parser.add_argument("--card", action="store_true", help="write the bundle's model card")
    chosen = parser.parse_args()
    report = evaluate(chosen.data, chosen.folder, not chosen.no_ceiling)
    if chosen.card:
        card.write(chosen.folder, report)


if __name__ == "__main__":
    main()
