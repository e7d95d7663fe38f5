"""Put the bundle together: the network's vectors of all photos, the fitted tagger, the manifest."""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch import nn

from training import data, evidence, export, network, quantise, tagger, views

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
SETTLING_PHOTOS = 4096
COLLAGES = 20_000
SIDE = 128
"""Larger than in training: what networks learn on crops they recognise best in somewhat larger wholes."""
SOURCES = [
    "MiniPlaces (research use)",
    "Tiny-ImageNet (research use)",
    "CIFAR-10 (research use)",
    "Intel image scenes (CC0 by its repository)",
    "cats and dogs (terms not stated: treat as research use)",
    "clothing dataset (CC0)",
    "grocery store dataset (MIT)",
    "labels by MobileNet v2, NanoDet-m and MLPerf Tiny visual wake words (all Apache-2.0)",
]


def vectors_of(session: onnxruntime.InferenceSession, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Unit vectors of photos already squashed to the network's side."""
    found = []
    for block in range(0, len(pixels), 64):
        part = torch.from_numpy(np.ascontiguousarray(pixels[block : block + 64])).permute(0, 3, 1, 2).float()
        found.append(session.run(["embedding"], {"pixels": network.normalise(part).contiguous().numpy()})[0])
    return np.concatenate(found)


def training_vectors(
    session: onnxruntime.InferenceSession, train: data.TrainSet, kind: str, index: Indices, side: int
) -> Floats:
    """Unit vectors of one view of the training photos at `index`."""
    drawn = views.draw(kind, len(train.labels))
    found = []
    for block in range(0, len(index), 64):
        pixels = network.normalise(views.render(train.pixels, drawn, index[block : block + 64], side))
        found.append(session.run(["embedding"], {"pixels": pixels.contiguous().numpy()})[0])
    return np.concatenate(found)


@torch.no_grad()
def settle(embedder: network.Embedder, train: data.TrainSet, side: int) -> None:
    """Take the norms' statistics anew, from whole photos at the size that is shipped.

    Training saw crops and smaller pictures. Without this, vectors at another size have a common part, and unrelated
    photos a cosine above 0.
    """
    norms = [each for each in embedder.modules() if isinstance(each, nn.BatchNorm2d | nn.BatchNorm1d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    embedder.train()
    index = np.random.default_rng(7).permutation(np.flatnonzero(~train.held_back))[:SETTLING_PHOTOS]
    whole = views.draw("full", len(train.labels))
    for block in range(0, len(index), 128):
        embedder(network.normalise(views.render(train.pixels, whole, index[block : block + 128], side)))
    embedder.eval()


def manifest(folder: Path, side: int) -> dict[str, object]:
    """What the server reads first."""
    names = ("embedder.onnx", "tagger.npz", "vocabulary.json", "words.json")
    files = {name.partition(".")[0]: name for name in names}
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
    partial = folder / "manifest.json.tmp"
    partial.write_text(json.dumps(manifest(folder, side), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(partial, folder / "manifest.json")


def averaged(work: Path, name: str) -> network.Embedder:
    """The averaged embedder of a training run."""
    state = torch.load(work / f"{name}.pt", weights_only=True)["average"]
    student = network.Student(state["labels.weight"].shape[0])
    student.load_state_dict(state)
    return student.embedder.eval()


def examples(
    session: onnxruntime.InferenceSession, photo_dir: Path, work: Path, side: int, vocabulary: evidence.Vocabulary
) -> tuple[tagger.Examples, tagger.Examples]:
    """Pictures to fit the tagger on, and pictures to calibrate it on: whole photos and collages of both.

    Collages show small things among others, as photographs do and the training photos do not.
    """
    label_map = json.loads((Path(__file__).parent / "label_map.json").read_text(encoding="utf-8"))
    train = data.load_train(work)
    count = len(train.labels)
    marks = evidence.gather(photo_dir, work, vocabulary, label_map)
    drawn = views.draw("collage", count)
    chosen = np.sort(np.random.default_rng(7).permutation(count)[:COLLAGES])
    whole = tagger.Examples(training_vectors(session, train, "full", np.arange(count), side), marks)
    mixed = tagger.Examples(
        training_vectors(session, train, "collage", chosen, side),
        evidence.of_collages(marks, vocabulary, drawn)[chosen],
    )
    front, behind = train.held_back[chosen], train.held_back[drawn.partner[chosen]]
    lessons = whole.only(~train.held_back).join(mixed.only(~(front | behind)))
    return lessons, whole.only(train.held_back).join(mixed.only(front))


def make(photo_dir: Path, work: Path, folder: Path, name: str, side: int) -> None:
    """Export and fit beside the old bundle, then put all files in its place at once and sign them."""
    staged = work / "bundle"
    staged.mkdir(exist_ok=True)
    embedder = averaged(work, name)
    settle(embedder, data.load_train(work), side)
    difference = export.write(embedder, side, quantise.TRAINED)
    print(f"exported at {side} px, largest difference {difference:.1e}", flush=True)
    quantise.quantise(quantise.TRAINED, staged / "embedder.onnx", quantise.photos(photo_dir, side))
    vocabulary = evidence.Vocabulary.read(folder / "vocabulary.json")
    session = export.session(staged / "embedder.onnx", 2)
    lessons, held_back = examples(session, photo_dir, work, side, vocabulary)
    fitted = tagger.fit(lessons, held_back, vocabulary)
    fitted.write(staged / "tagger.npz")
    for file in ("embedder.onnx", "tagger.npz"):
        partial = folder / f"{file}.tmp"
        shutil.copyfile(staged / file, partial)
        os.replace(partial, folder / file)
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
