"""Put the bundle together: the network's vectors of all photos, the fitted tagger, the manifest."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from training import data, evidence, export, network, tagger, views

SIDE = 128
"""Larger than in training: what networks learn on crops they recognise best in somewhat larger wholes."""
SOURCES = [
    "MiniPlaces (research use)", "Tiny-ImageNet (research use)", "CIFAR-10 (research use)",
    "Intel image scenes (CC0)", "Cats and dogs", "Clothing dataset (CC0)", "Grocery store dataset (MIT)",
    "labels by MobileNet v2 (Apache-2.0), NanoDet-m (Apache-2.0), MLPerf Tiny visual wake words (Apache-2.0)",
]  # fmt: skip


def vectors_of(session: onnxruntime.InferenceSession, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Unit vectors of photos already squashed to the network's side."""
    found = []
    for block in range(0, len(pixels), 64):
        part = torch.from_numpy(np.ascontiguousarray(pixels[block : block + 64])).permute(0, 3, 1, 2).float()
        found.append(session.run(["embedding"], {"pixels": network.normalise(part).contiguous().numpy()})[0])
    return np.concatenate(found)


def training_vectors(session: onnxruntime.InferenceSession, train: data.TrainSet, kind: str, side: int
                     ) -> npt.NDArray[np.float32]:  # fmt: skip
    """Unit vectors of one view of every training photo."""
    drawn = views.draw(kind, len(train.labels))
    found = []
    for block in range(0, len(train.labels), 64):
        index = np.arange(block, min(block + 64, len(train.labels)))
        pixels = network.normalise(views.render(train.pixels, drawn, index, side))
        found.append(session.run(["embedding"], {"pixels": pixels.contiguous().numpy()})[0])
    return np.concatenate(found)


def manifest(folder: Path, side: int) -> dict[str, object]:
    """What the server reads first."""
    files = {"embedder": "embedder.onnx", "tagger": "tagger.npz", "vocabulary": "vocabulary.json"}
    return {
        "id": "general",
        "kind": "general",
        "version": datetime.datetime.now(datetime.UTC).strftime("%Y%m%d.%H%M"),
        "dims": network.DIMS,
        "preprocessing": {
            "size": side,
            "resize": "squash",
            "interpolation": "bilinear",
            "mean": list(network.MEAN),
            "std": list(network.STD),
        },
        "files": files,
        "sha256": {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files.values()},
        "licence": "Apache-2.0",
        "sources": SOURCES,
    }


def write_manifest(folder: Path, side: int) -> None:
    """The manifest goes last: it vouches for the other files."""
    partial = folder / "manifest.partial"
    partial.write_text(json.dumps(manifest(folder, side), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, folder / "manifest.json")


def averaged(work: Path, name: str) -> network.Embedder:
    """The averaged embedder of a training run."""
    state = torch.load(work / f"{name}.pt", weights_only=True)["average"]
    student = network.Student(state["labels.weight"].shape[0])
    student.load_state_dict(state)
    return student.embedder.eval()


def examples(session: onnxruntime.InferenceSession, photo_dir: Path, work: Path, side: int,
             vocabulary: evidence.Vocabulary) -> tuple[tagger.Examples, tagger.Examples]:  # fmt: skip
    """Pictures to fit the tagger on, and pictures to calibrate it on: whole photos and collages of both.

    Collages show small things among others, as photographs do and the training photos do not.
    """
    label_map = json.loads((Path(__file__).parent / "label_map.json").read_text(encoding="utf-8"))
    train = data.load_train(work)
    marks = evidence.gather(photo_dir, work, vocabulary, label_map)
    drawn = views.draw("collage", len(train.labels))
    whole = tagger.Examples(training_vectors(session, train, "full", side), marks)
    mixed = tagger.Examples(
        training_vectors(session, train, "collage", side), evidence.of_collages(marks, vocabulary, drawn)
    )
    shared = train.held_back | train.held_back[drawn.partner]
    lessons = whole.only(~train.held_back).join(mixed.only(~shared))
    return lessons, whole.only(train.held_back).join(mixed.only(train.held_back))


def make(photo_dir: Path, work: Path, folder: Path, name: str, side: int) -> None:
    """Export, fit and sign."""
    difference = export.write(averaged(work, name), side, folder / "embedder.onnx")
    print(f"exported at {side} px, largest difference {difference:.1e}", flush=True)
    vocabulary = evidence.Vocabulary.read(folder / "vocabulary.json")
    session = export.session(folder / "embedder.onnx", 2)
    lessons, held_back = examples(session, photo_dir, work, side, vocabulary)
    fitted = tagger.fit(lessons, held_back, vocabulary)
    fitted.write(folder / "tagger.npz")
    write_manifest(folder, side)
    left_out = [n for i, n in zip(vocabulary.ids, vocabulary.names, strict=True) if i not in set(fitted.ids)]
    print(f"{len(fitted.ids)} concepts fitted; left out: {', '.join(left_out) or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--name", default="student")
    parser.add_argument("--side", type=int, default=SIDE)
    chosen = parser.parse_args()
    make(chosen.data, chosen.work, chosen.folder, chosen.name, chosen.side)


if __name__ == "__main__":
    main()
