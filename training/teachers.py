"""The teachers: MobileNet v1 embeddings and v2 logits of every view, and people by VWW."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import flatbuffers.number_types as numbers
import flatbuffers.table
import numpy as np
import numpy.typing as npt
import torch
from ai_edge_litert.interpreter import Interpreter

from training import data, views

V1_FILE = "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"
V2_FILE = "mobilenet_v2_1.0_224_quant.tflite"
VWW_FILE = "vww_96_float.tflite"
TEACHER_SIDE = 224
WIDTHS = {"v1": 1024, "v2": 1001}
VIEW_KINDS = ("full", "crop", "collage")
BATCH = 64
V2_SCALE = 0.0988925
"""One step of the v2 teacher's quantised logits."""


def without_softmax(model: bytes) -> bytes:
    """The same network with the input of its last softmax as output.

    Probabilities come quantised to 1/256, which throws away everything but the top classes; logits keep it.
    """
    buffer = bytearray(model)
    root = int.from_bytes(buffer[:4], "little")
    graph = _member(flatbuffers.table.Table(buffer, root), 8, 0)
    outputs = graph.Vector(graph.Offset(8))
    softmax = _member(graph, 10, graph.VectorLen(graph.Offset(10)) - 1)
    logits = softmax.Get(numbers.Int32Flags, softmax.Vector(softmax.Offset(6)))
    buffer[outputs : outputs + 4] = int(logits).to_bytes(4, "little")
    return bytes(buffer)


def _member(table: flatbuffers.table.Table, slot: int, position: int) -> flatbuffers.table.Table:
    """The table at `position` of the vector of tables in `slot`."""
    start = table.Vector(table.Offset(slot)) + 4 * position
    return flatbuffers.table.Table(table.Bytes, table.Indirect(start))


@dataclass
class Teacher:
    """A .tflite network for one picture at a time; `scale` and `zero` turn its bytes into numbers."""

    interpreter: Interpreter
    scale: float
    zero: int

    @classmethod
    def open(cls, path: Path, logits: bool = False) -> Teacher:
        content = path.read_bytes()
        interpreter = Interpreter(model_content=without_softmax(content) if logits else content, num_threads=1)
        interpreter.allocate_tensors()
        scale, zero = interpreter.get_output_details()[0]["quantization"]
        return cls(interpreter, scale or 1.0, zero)

    def raw(self, picture: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The output as the network stores it, without the batch axis."""
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], picture[None])
        self.interpreter.invoke()
        found = self.interpreter.get_tensor(self.interpreter.get_output_details()[0]["index"])
        return np.asarray(found).reshape(-1)

    def values(self, picture: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
        """The output as real numbers."""
        return (self.raw(picture).astype(np.float32) - self.zero) * self.scale


def run_shard(teacher_dir: Path, work: Path, network: str, kind: str, shard: int, shards: int) -> None:
    """Teach one view of every `shards`-th block of photos; finished blocks are kept, so a stopped run goes on."""
    torch.set_num_threads(1)
    train = data.load_train(work)
    drawn = views.draw(kind, len(train.labels))
    teacher = open_teacher(teacher_dir, network)
    outputs = open_targets(work, network, kind, len(train.labels), mode="r+")
    for block in range(shard * BATCH, len(train.labels), shards * BATCH):
        index = np.arange(block, min(block + BATCH, len(train.labels)))
        if outputs.done[index].all():
            continue
        pictures = views.render(train.pixels, drawn, index, TEACHER_SIDE).round().clamp(0, 255).to(torch.uint8)
        for photo, picture in zip(index, pictures.permute(0, 2, 3, 1).contiguous().numpy(), strict=True):
            outputs.values[photo] = teacher.raw(picture)
            outputs.done[photo] = 1


def open_teacher(teacher_dir: Path, network: str) -> Teacher:
    """The teacher called "v1" (embedding) or "v2" (logits)."""
    if network == "v1":
        return Teacher.open(teacher_dir / V1_FILE)
    return Teacher.open(teacher_dir / V2_FILE, logits=True)


@dataclass(frozen=True)
class Targets:
    """What a teacher said about one view of every photo, as stored bytes."""

    values: npt.NDArray[np.uint8]
    done: npt.NDArray[np.uint8]


def open_targets(work: Path, network: str, kind: str, count: int, mode: Literal["r", "r+"]) -> Targets:
    """The target files of a view, created empty when `mode` may write and they are missing."""
    found = []
    for name, shape in (("values", (count, WIDTHS[network])), ("done", (count,))):
        path = work / f"targets-{network}-{kind}-{name}.npy"
        if mode != "r" and not path.exists():
            np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape).flush()
        found.append(np.load(path, mmap_mode=mode))
    return Targets(*found)


def logits(stored: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Stored bytes of the v2 teacher as logits; its zero point shifts all classes alike and is left out."""
    return stored.astype(np.float32) * V2_SCALE


def people_scores(teacher_dir: Path, work: Path) -> npt.NDArray[np.float32]:
    """VWW's probability that a person is visible, for every stored photo; kept in `work`."""
    path = work / "people-vww.npy"
    if not path.exists():
        train = data.load_train(work)
        teacher = Teacher.open(teacher_dir / VWW_FILE)
        whole = views.draw("full", len(train.labels))
        scores = np.zeros(len(train.labels), dtype=np.float32)
        for block in range(0, len(scores), BATCH):
            index = np.arange(block, min(block + BATCH, len(scores)))
            pictures = views.render(train.pixels, whole, index, 96).permute(0, 2, 3, 1).contiguous().numpy() / 255
            scores[index] = [teacher.values(picture)[1] for picture in pictures]
        np.save(path, scores)
    return np.asarray(np.load(path))


if __name__ == "__main__":
    run_shard(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5]), int(sys.argv[6]))
