"""The file of an exported dataset version: a ZIP archive with ``mimetype`` and batches of inputs, written in portions.

As Clarifai's are, and as its SDK reads them: in the folder ``all``, each name ending in ``_n`` and the count of inputs.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from clarifai_grpc.grpc.api import resources_pb2

#: A batch ends with whichever comes first; a single input may be bigger, and then is a batch of its own.
BATCH_INPUTS = 1000
BATCH_BYTES = 8_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveFormat:
    """How batches are written. ``encode`` makes bytes of one input, ``join`` a batch of those of several."""

    mimetype: str
    suffix: str
    encode: Callable[[resources_pb2.Input], bytes]
    join: Callable[[Iterable[bytes]], bytes]


def _encode_protobuf(item: resources_pb2.Input) -> bytes:
    return resources_pb2.InputBatch(inputs=[item]).SerializeToString()


def _join_json(inputs: Iterable[bytes]) -> bytes:
    return b'{"inputs":[%b]}' % b",\n".join(inputs)


#: Batches of protobuf messages one after the other are one batch of all their inputs.
PROTOBUF = ArchiveFormat(
    mimetype="application/x.clarifai-data+protobuf", suffix="", encode=_encode_protobuf, join=b"".join
)


def json_format(encode: Callable[[resources_pb2.Input], bytes]) -> ArchiveFormat:
    """Batches in JSON, of which ``encode`` makes an input."""
    return ArchiveFormat(mimetype="application/x.clarifai-data+json", suffix=".json", encode=encode, join=_join_json)


class Archive:
    """One batch is in memory, whatever the number of inputs. The same inputs and the same time make the same file."""

    def __init__(self, path: Path, archive_format: ArchiveFormat, made_at: datetime) -> None:
        at = made_at.astimezone(UTC)
        self._format = archive_format
        self._date = (at.year, at.month, at.day, at.hour, at.minute, at.second)
        self._batch: list[bytes] = []
        self._bytes = 0
        self._batches = 0
        self._zip = zipfile.ZipFile(path, "w")
        # Uncompressed and first, so that the kind of file can be told from its head, as in EPUB and OpenDocument.
        self._write("mimetype", archive_format.mimetype.encode(), zipfile.ZIP_STORED)

    def add(self, item: resources_pb2.Input) -> None:
        """The next input."""
        encoded = self._format.encode(item)
        if self._batch and (len(self._batch) == BATCH_INPUTS or self._bytes + len(encoded) > BATCH_BYTES):
            self._flush()
        self._batch.append(encoded)
        self._bytes += len(encoded)

    def finish(self) -> None:
        """Completes the file after the last input."""
        self._flush()
        self._zip.close()

    def close(self) -> None:
        """Lets go of the file, whether it was completed or not, and whatever a thread still does with it."""
        with suppress(OSError, ValueError):  # ValueError: something is being written
            self._zip.close()

    def _flush(self) -> None:
        if not self._batch:
            return
        self._batches += 1
        name = f"all/inputbatch_{self._batches:06}_n{len(self._batch)}{self._format.suffix}"
        self._write(name, self._format.join(self._batch), zipfile.ZIP_DEFLATED)
        self._batch.clear()
        self._bytes = 0

    def _write(self, name: str, data: bytes, compression: int) -> None:
        self._zip.writestr(zipfile.ZipInfo(name, self._date), data, compression)
