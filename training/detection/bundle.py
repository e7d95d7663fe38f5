"""``python -m training.detection.bundle --data DATA --work WORK --folder FOLDER``: export, calibrate, measure, sign.

The files are made beside the old bundle and take its place at the end, the manifest last.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from training import network, quantise
from training.detection import card, export
from training.detection.calibrate import OVERLAP, Calibration, Evidence, Looker, calibrate, gather
from training.detection.canvas import Painter
from training.detection.network import Student
from training.detection.photos import load
from training.detector import COCO

CANVASES = 4000
CALIBRATED = 384
SIDE = 192
#: What the box of a class shows, in the vocabulary's names. Classes without a name that fits are not shipped.
CONCEPTS = {
    "person": "people", "bicycle": "bicycle", "car": "car", "motorcycle": "motorcycle", "airplane": "airplane",
    "bus": "bus", "train": "train", "truck": "truck", "boat": "boat", "traffic light": "traffic light",
    "bench": "bench", "bird": "bird", "cat": "cat", "dog": "dog", "horse": "horse", "sheep": "sheep", "cow": "cow",
    "elephant": "elephant", "bear": "bear", "backpack": "backpack", "umbrella": "umbrella", "handbag": "bag",
    "tie": "necktie", "suitcase": "bag", "sports ball": "ball", "bottle": "bottle", "wine glass": "glass",
    "cup": "cup", "bowl": "kitchenware", "spoon": "spoon", "banana": "banana", "apple": "apple",
    "sandwich": "bread", "orange": "orange", "broccoli": "vegetable", "carrot": "carrot", "pizza": "pizza",
    "cake": "dessert", "chair": "chair", "couch": "sofa", "potted plant": "plant", "bed": "bed",
    "dining table": "table", "toilet": "toilet", "tv": "television", "laptop": "laptop", "keyboard": "keyboard",
    "cell phone": "telephone", "sink": "sink", "refrigerator": "refrigerator", "book": "book", "clock": "clock",
    "teddy bear": "teddy bear",
}  # fmt: skip


def averaged(path: Path) -> Student:
    """The averaged weights of a training run."""
    student = Student()
    student.load_state_dict(torch.load(path, weights_only=True)["average"])
    return student.eval()


def classes_of(members: Sequence[int], found: Sequence[Calibration], ids: dict[str, str]) -> list[dict[str, object]]:
    """The manifest's entries of the network's columns."""
    return [
        {
            "label": COCO[member],
            "concept": ids[CONCEPTS[COCO[member]]],
            "scale": round(each.scale, 4),
            "bias": round(each.bias, 4),
            "threshold": each.threshold,
        }
        for member, each in zip(members, found, strict=True)
    ]


def manifest(network_file: Path, classes: list[dict[str, object]]) -> dict[str, object]:
    return {
        "id": "general-image-detection",
        "kind": "detector",
        "version": f"{datetime.datetime.now(datetime.UTC):%Y%m%d.%H%M}",
        "preprocessing": {
            "size": SIDE,
            "resize": "squash",
            "interpolation": "bilinear",
            "mean": list(network.MEAN),
            "std": list(network.STD),
        },
        "files": {"detector": network_file.name},
        "overlap": OVERLAP,
        "classes": classes,
        "sha256": {network_file.name: hashlib.sha256(network_file.read_bytes()).hexdigest()},
        "licence": "Apache-2.0",
        "sources": card.SOURCES,
    }


def seen(painter: Painter) -> Iterator[npt.NDArray[np.float32]]:
    """Batches like those of training, for the ranges of activations."""
    for batch in range(CALIBRATED // quantise.BATCH):
        drawn = [painter.draw(np.random.default_rng((1, batch, place))).pixels for place in range(quantise.BATCH)]
        pixels = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float()
        yield network.normalise(pixels).contiguous().numpy()


def chosen(evidence: Sequence[Evidence], members: Sequence[int]) -> list[int]:
    """The classes that are good enough to be shipped, judged by pictures of photos that were held out."""
    for member, each in sorted(zip(members, evidence, strict=True), key=lambda pair: -pair[1].average_precision):
        print(f"{COCO[member]:15} known {each.known:5} AP {each.average_precision:.3f}", flush=True)
    return [member for member, each in zip(members, evidence, strict=True) if each.is_enough]


def make(photo_dir: Path, work: Path, folder: Path, vocabulary: Path) -> None:
    """Export all classes, choose by the held-out photos, export the chosen ones, calibrate and sign."""
    ids = {entry["name"]: entry["id"] for entry in json.loads(vocabulary.read_text(encoding="utf-8"))}
    student = averaged(work / "student.pt")
    painter = Painter(load(work, held_out=True), SIDE)
    drawn = [painter.draw(np.random.default_rng((2, seed))) for seed in range(CANVASES)]
    staged = work / "bundle"
    staged.mkdir(exist_ok=True)
    network_file = staged / "detector.onnx"
    members = [COCO.index(label) for label in CONCEPTS]
    export.write(student, SIDE, members, network_file)
    members = chosen(gather(Looker(network_file), drawn, members), members)
    exact = staged / "exact.onnx"
    difference = export.write(student, SIDE, members, exact)
    print(f"{len(members)} classes, largest differences {difference}", flush=True)
    quantise.quantise(exact, network_file, seen(Painter(load(work), SIDE)))
    evidence = gather(Looker(network_file), drawn, members)
    for name, found in (("float32", gather(Looker(exact), drawn, members)), ("int8", evidence)):
        print(
            f"mean average precision in {name}: {np.mean([each.average_precision for each in found]):.4f}", flush=True
        )
    signed = manifest(network_file, classes_of(members, calibrate(evidence), ids))
    (staged / "manifest.json").write_text(json.dumps(signed, indent=2) + "\n", encoding="utf-8")
    card.write(staged, photo_dir, evidence)
    for name in ("detector.onnx", "MODEL_CARD.md", "manifest.json"):
        partial = folder / f"{name}.tmp"
        partial.write_bytes((staged / name).read_bytes())
        os.replace(partial, folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(".cache/detection"))
    parser.add_argument("--folder", type=Path, default=Path("src/sightrank/detection"))
    parser.add_argument("--vocabulary", type=Path, default=Path("src/sightrank/general/vocabulary.json"))
    options = parser.parse_args()
    make(options.data, options.work, options.folder, options.vocabulary)


if __name__ == "__main__":
    main()
