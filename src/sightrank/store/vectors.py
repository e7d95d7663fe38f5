"""The tables ``vectors_<embedder>``: one for each embedding model version, the dimension in the column's type.

Vectors travel by binary COPY, read and written as whole numpy arrays: about 80,000 rows a second.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from sightrank.store.database import Connection, Database

#: For so many versions it stays known which areas are gone; who follows from further behind loads everything anew.
VERSIONS_KEPT = 10_000
_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_CHUNK_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderTable:
    """A registered embedding model version and where its vectors are."""

    id: int
    dims: int

    @property
    def name(self) -> sql.Identifier:
        return sql.Identifier(f"vectors_{self.id}")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VectorRows:
    """Stored vectors, parallel arrays; ``vectors`` [n, dims] float16, ``created_us`` microseconds since 1970."""

    area_ids: NDArray[np.int64]
    input_numbers: NDArray[np.int64]
    created_us: NDArray[np.int64]
    vectors: NDArray[np.float16]


async def register(database: Database, model_id: str, version_id: str, dims: int) -> EmbedderTable:
    """The table of a model version, made when it is new. Any number of processes may ask at once."""
    async with database.transaction() as connection:
        await connection.execute("SELECT pg_advisory_xact_lock(hashtext('sightrank embedders'))")
        key = [model_id, version_id]
        cursor = await connection.execute("SELECT id, dims FROM embedders WHERE (model_id, version_id) = (%s, %s)", key)
        row = await cursor.fetchone()
        if row is not None:
            if row[1] != dims:
                raise ValueError(f"{model_id} {version_id} is registered with {row[1]} dimensions, not {dims}.")
            return EmbedderTable(id=row[0], dims=row[1])
        cursor = await connection.execute(
            "INSERT INTO embedders (model_id, version_id, dims) VALUES (%s, %s, %s) RETURNING id", [*key, dims]
        )
        created = await cursor.fetchone()
        assert created is not None
        table = EmbedderTable(id=created[0], dims=dims)
        await connection.execute(_DEFINITION.format(table=table.name, dims=sql.Literal(dims)))
        await connection.execute(
            sql.SQL("CREATE INDEX {} ON {} (bucket, version)").format(
                sql.Identifier(f"vectors_{table.id}_by_version"), table.name
            )
        )
        await connection.execute(
            sql.SQL("CREATE INDEX {} ON {} (bucket, input_number)").format(
                sql.Identifier(f"vectors_{table.id}_by_input"), table.name
            )
        )
        return table


_DEFINITION = sql.SQL(
    "CREATE TABLE {table} (bucket bigint NOT NULL, area_id bigint NOT NULL, input_number bigint NOT NULL,"
    " created_us bigint NOT NULL, version bigint NOT NULL, vector halfvec({dims}) NOT NULL,"
    " PRIMARY KEY (bucket, area_id), FOREIGN KEY (bucket, area_id) REFERENCES areas (bucket, id) ON DELETE CASCADE)"
)


async def insert(connection: Connection, table: EmbedderTable, bucket: int, version: int, rows: VectorRows) -> None:
    """Writes vectors stamped with ``version``, inside the caller's transaction."""
    records = np.zeros(len(rows.area_ids), _record(table.dims, ("bucket", "area", "input", "created", "version")))
    records["fields"] = 6
    for name, values in (
        ("bucket", bucket),
        ("area", rows.area_ids),
        ("input", rows.input_numbers),
        ("created", rows.created_us),
        ("version", version),
    ):
        records[f"{name}_bytes"] = 8
        records[name] = values
    records["vector_bytes"] = 4 + 2 * table.dims
    records["dims"] = table.dims
    records["vector"] = rows.vectors
    statement = sql.SQL(
        "COPY {} (bucket, area_id, input_number, created_us, version, vector) FROM STDIN (FORMAT BINARY)"
    ).format(table.name)
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        await copy.write(_HEADER + records.tobytes() + _TRAILER)


async def changed_since(
    connection: Connection, table: EmbedderTable, bucket: int, version: int
) -> AsyncIterator[VectorRows]:
    """Vectors of the bucket stamped later than ``version``, in parts of a few megabytes."""
    statement = sql.SQL(
        "COPY (SELECT area_id, input_number, created_us, vector FROM {} WHERE bucket = {} AND version > {})"
        " TO STDOUT (FORMAT BINARY)"
    ).format(table.name, sql.Literal(bucket), sql.Literal(version))
    record = _record(table.dims, ("area", "input", "created"))
    pending = bytearray()
    skip = len(_HEADER)
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        async for block in copy:
            pending += block
            if len(pending) >= _CHUNK_BYTES:
                whole = (len(pending) - skip) // record.itemsize
                # The last record may be followed by the trailer; only complete records are taken.
                yield _rows(bytes(pending[skip : skip + whole * record.itemsize]), record)
                del pending[: skip + whole * record.itemsize]
                skip = 0
    complete = len(pending) - skip - len(_TRAILER)
    if complete > 0:
        yield _rows(bytes(pending[skip : skip + complete]), record)


def _rows(data: bytes, record: np.dtype[np.void]) -> VectorRows:
    records = np.frombuffer(data, record)
    return VectorRows(
        area_ids=records["area"].astype(np.int64),
        input_numbers=records["input"].astype(np.int64),
        created_us=records["created"].astype(np.int64),
        vectors=records["vector"].astype(np.float16),
    )


def _record(dims: int, columns: tuple[str, ...]) -> np.dtype[np.void]:
    """One row of binary COPY: every value of fixed width, each behind its length, all big-endian."""
    fields: list[tuple[str, str] | tuple[str, str, int]] = [("fields", ">i2")]
    for name in columns:
        fields += [(f"{name}_bytes", ">i4"), (name, ">i8")]
    fields += [("vector_bytes", ">i4"), ("dims", ">i2"), ("unused", ">i2"), ("vector", ">f2", dims)]
    return np.dtype(fields)
