"""Convolutions in whole numbers: a float32 graph becomes one with eight-bit weights and activations.

Weights take seven of the eight bits. Processors without a dot product for bytes add two products in sixteen bits, which
eight-bit weights overflow; so every x86 processor computes the same whole numbers. Gates and the projection stay in
float32: they cost nothing, and half of the error came from them.

    python -m training.quantise --data DATA --folder src/sightrank/general

makes ``embedder.onnx`` of a bundle from ``training/general.onnx``, the network as it was trained, and signs it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from training import data, network

Floats = npt.NDArray[np.float32]
TRAINED = Path(__file__).parent / "general.onnx"
SOURCES = ("places", "objects64", "clothing", "grocery")
PHOTOS, BATCH = 128, 8
KEPT = 99.999
"""Per cent of the activations that the range of a layer holds; the few beyond it would cost all others precision."""


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterable[Floats]) -> None:
        self._left = iter(batches)

    def get_next(self) -> dict[str, Floats] | None:
        batch = next(self._left, None)
        return None if batch is None else {"pixels": batch}


def quantise(source: Path, target: Path, batches: Iterable[Floats]) -> None:
    """Writes `target` from the graph `source`, whose input is `pixels`; `batches` show what activations there are."""
    with tempfile.TemporaryDirectory() as folder:
        plain, made = Path(folder) / "plain.onnx", Path(folder) / "made.onnx"
        left_alone = _plain(source, plain)
        quantize_static(
            str(plain),
            str(made),
            _Batches(batches),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=left_alone,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": KEPT},
        )
        partial = target.with_name(f"{target.name}.tmp")
        partial.write_bytes(made.read_bytes())
    os.replace(partial, target)


def _plain(source: Path, target: Path) -> list[str]:
    """Writes the graph with its constants computed and its nodes named; names of the nodes to be left alone."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    model = onnx.load(str(target))
    for position, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}_{position}"
    onnx.save(model, str(target))
    return [node.name for node in _left_alone(model.graph.node)]


def _left_alone(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """What follows from a mean over the picture (gates, up to the product with them; the projection), and from a
    convolution whose answer is reshaped (a detector's heads, with all that comes after).
    """
    reshaped = {node.input[0] for node in nodes if node.op_type == "Reshape"}
    means: set[str] = set()
    answers: set[str] = set()
    found = []
    for node in nodes:
        if node.op_type == "GlobalAveragePool" or node.input[0] in means:
            means.update(node.output)
        elif reshaped.intersection(node.output) or answers.intersection(node.input):
            answers.update(node.output)
        else:
            continue
        found.append(node)
    return found


def photos(photo_dir: Path, side: int) -> Iterator[Floats]:
    """Batches of training photos, some of every kind."""
    chosen = [
        data.squash(photo.image, side)
        for source in SOURCES
        for photo in itertools.islice(data.photos(photo_dir / f"train-{source}.zip"), PHOTOS)
    ]
    for start in range(0, len(chosen), BATCH):
        pixels = torch.from_numpy(np.stack(chosen[start : start + BATCH])).permute(0, 3, 1, 2).float()
        yield network.normalise(pixels).contiguous().numpy()


def main() -> None:
    from training import bundle

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--source", type=Path, default=TRAINED)
    chosen = parser.parse_args()
    quantise(chosen.source, chosen.folder / "embedder.onnx", photos(chosen.data, bundle.SIDE))
    bundle.write_manifest(chosen.folder, bundle.SIDE)


if __name__ == "__main__":
    main()
