"""The tables ``vectors_<embedder>``: one for each embedding model version, the dimension in the column's type.

Vectors travel by binary COPY, read and written as whole numpy arrays: about 80,000 rows a second.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from psycopg import OperationalError, sql
from psycopg.errors import error_from_result

from sightrank.store.database import Connection, Database, number_array

#: For so many versions it stays known which areas are gone; who follows from further behind loads everything anew.
VERSIONS_KEPT = 10_000
_PLACE = ("area", "input", "created")
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProductRows:
    """Areas and their inner products with some directions: parallel arrays, ``products`` [n, directions] float64."""

    area_ids: NDArray[np.int64]
    input_numbers: NDArray[np.int64]
    created_us: NDArray[np.int64]
    products: NDArray[np.float64]


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


async def insert_reindexed(connection: Connection, table: EmbedderTable, bucket: int, version: int) -> None:
    """Copies the vectors of regions put aside for a change of workflow, which have become areas in this transaction;
    those that were areas before have theirs."""
    await connection.execute(
        _REINDEXED.format(table=table.name, bucket=sql.Literal(bucket), version=sql.Literal(version))
    )


_REINDEXED = sql.SQL(
    "INSERT INTO {table} (bucket, area_id, input_number, created_us, version, vector)"
    " SELECT r.bucket, r.id, r.input_number, (extract(epoch FROM r.created_at) * 1000000)::bigint, {version}, s.vector"
    " FROM reindexed_regions s JOIN areas r ON r.bucket = s.bucket AND r.region_id = s.region_id"
    " WHERE s.bucket = {bucket} AND r.bucket = {bucket} ON CONFLICT DO NOTHING"
)


async def delete(connection: Connection, table: EmbedderTable, bucket: int, area_ids: NDArray[np.int64]) -> None:
    """Removes the vectors of those of these areas that have one, for others in their place."""
    await connection.execute(
        sql.SQL("DELETE FROM {} WHERE bucket = {} AND area_id = ANY({})").format(
            table.name, sql.Literal(bucket), _numbers(area_ids)
        )
    )


async def delete_some(connection: Connection, table: EmbedderTable, bucket: int, at_most: int) -> int:
    """Removes vectors of an app that is not searched by them; returns how many."""
    statement = sql.SQL(
        "DELETE FROM {table} WHERE bucket = {bucket} AND area_id = ANY (ARRAY ("
        "SELECT area_id FROM {table} WHERE bucket = {bucket} LIMIT {at_most}))"
    ).format(table=table.name, bucket=sql.Literal(bucket), at_most=sql.Literal(at_most))
    return (await connection.execute(statement)).rowcount


def changed_since(
    connection: Connection, table: EmbedderTable, bucket: int, version: int
) -> AsyncGenerator[VectorRows, None]:
    """Vectors of the bucket stamped later than ``version``, in parts of a few megabytes."""
    chosen = sql.SQL("bucket = {} AND version > {}").format(sql.Literal(bucket), sql.Literal(version))
    return _vectors(connection, table, chosen)


def of_bucket(
    connection: Connection, table: EmbedderTable, bucket: int, *, by_input: bool = False
) -> AsyncGenerator[VectorRows, None]:
    """All vectors of the bucket, in parts; ``by_input``: an input's vectors follow each other in one part."""
    return _vectors(connection, table, sql.SQL("bucket = {}").format(sql.Literal(bucket)), by_input=by_input)


def of_areas(
    connection: Connection, table: EmbedderTable, bucket: int, area_ids: NDArray[np.int64], *, by_input: bool = False
) -> AsyncGenerator[VectorRows, None]:
    """The vectors of those of these areas that have one, in parts; ``by_input`` as in ``of_bucket``."""
    chosen = sql.SQL("bucket = {} AND area_id = ANY({})").format(sql.Literal(bucket), _numbers(area_ids))
    return _vectors(connection, table, chosen, by_input=by_input)


def of_inputs(
    connection: Connection, table: EmbedderTable, bucket: int, input_numbers: NDArray[np.int64]
) -> AsyncGenerator[VectorRows, None]:
    """All vectors of these inputs, in parts, each input's in one."""
    chosen = sql.SQL("bucket = {} AND input_number = ANY({})").format(sql.Literal(bucket), _numbers(input_numbers))
    return _vectors(connection, table, chosen, by_input=True)


async def inputs_of(
    connection: Connection, table: EmbedderTable, bucket: int, area_ids: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The inputs of those of these areas that have a vector."""
    statement = sql.SQL("SELECT DISTINCT input_number FROM {} WHERE bucket = {} AND area_id = ANY({})").format(
        table.name, sql.Literal(bucket), _numbers(area_ids)
    )
    return np.array([number for (number,) in await (await connection.execute(statement)).fetchall()], np.int64)


async def nearest(
    connection: Connection, table: EmbedderTable, bucket: int, direction: NDArray[np.float16], count: int
) -> ProductRows:
    """The ``count`` vectors with the highest inner products, in that order, ``products`` [n, 1].

    Exactly these ``nearest_by_scan``; ``nearest_by_index`` most of them.
    """
    query = sql.SQL(
        "SELECT area_id, input_number, created_us, -(vector <#> {direction}) FROM {table} WHERE bucket = {bucket}"
        " ORDER BY vector <#> {direction} LIMIT {count}"
    ).format(direction=_halfvec(direction), table=table.name, bucket=sql.Literal(bucket), count=sql.Literal(count))
    record = _product_record(1)
    async with aclosing(_copied(connection, query, record)) as parts:
        found = [records async for records in parts]
    return _products(np.concatenate(found) if found else np.empty(0, record))


async def products(
    connection: Connection,
    table: EmbedderTable,
    bucket: int,
    directions: NDArray[np.float16],
    *,
    by_input: bool = False,
) -> AsyncGenerator[ProductRows, None]:
    """The inner products of all vectors of the bucket with [r, dims] directions, computed by PostgreSQL in float32.

    In parts; ``by_input``: an input's rows follow each other in one part.
    """
    columns = [sql.SQL(", -(vector <#> {})").format(_halfvec(direction)) for direction in directions]
    query = sql.SQL("SELECT area_id, input_number, created_us{} FROM {} WHERE bucket = {}").format(
        sql.Composed(columns), table.name, sql.Literal(bucket)
    )
    async with aclosing(_copied(connection, query, _product_record(len(directions)), by_input=by_input)) as parts:
        async for records in parts:
            yield _products(records)


@asynccontextmanager
async def snapshot(database: Database) -> AsyncIterator[Connection]:
    """A transaction whose statements see one and the same state of the database and read no other app's rows.

    Helpers, which the embedded server is not to start for small searches, are worth it for all vectors of a large app.
    """
    async with database.long_transaction() as connection:
        await connection.execute(
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL max_parallel_workers_per_gather = 2"
        )
        yield connection


@asynccontextmanager
async def nearest_by_index(connection: Connection) -> AsyncIterator[None]:
    """Inside the block ``nearest`` goes by the bucket's index, where there is one, however many rows it is to find."""
    await connection.execute(
        "SELECT set_config('hnsw.ef_search', '1000', true), set_config('hnsw.iterative_scan', 'relaxed_order', true),"
        " set_config('hnsw.max_scan_tuples', '1000000', true), set_config('enable_sort', 'off', true)"
    )
    yield
    await connection.execute("SET LOCAL enable_sort = on")


@asynccontextmanager
async def nearest_by_scan(connection: Connection) -> AsyncIterator[None]:
    """Inside the block ``nearest`` looks at every vector of the bucket."""
    await connection.execute("SET LOCAL enable_indexscan = off")
    yield
    await connection.execute("SET LOCAL enable_indexscan = on")


async def _vectors(
    connection: Connection, table: EmbedderTable, chosen: sql.Composable, *, by_input: bool = False
) -> AsyncGenerator[VectorRows, None]:
    query = sql.SQL("SELECT area_id, input_number, created_us, vector FROM {} WHERE {}").format(table.name, chosen)
    async with aclosing(_copied(connection, query, _record(table.dims, _PLACE), by_input=by_input)) as parts:
        async for records in parts:
            yield VectorRows(
                area_ids=records["area"].astype(np.int64),
                input_numbers=records["input"].astype(np.int64),
                created_us=records["created"].astype(np.int64),
                vectors=records["vector"].astype(np.float16),
            )


async def _copied(
    connection: Connection, query: sql.Composed, record: np.dtype[np.void], *, by_input: bool = False
) -> AsyncGenerator[NDArray[np.void], None]:
    """The rows of a query by binary COPY, in parts of a few megabytes; ``by_input``: cut between inputs."""
    statement = sql.SQL("COPY ({}{}) TO STDOUT (FORMAT BINARY)").format(
        query, sql.SQL(" ORDER BY input_number" if by_input else "")
    )
    pending = bytearray()
    skip = len(_HEADER)
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        async for block in copy:
            pending += block
            _take_arrived(connection, pending)
            # The last record may be followed by the trailer; only complete records are taken.
            whole = (len(pending) - skip) // record.itemsize if len(pending) >= _CHUNK_BYTES else 0
            if whole > 0:
                records = np.frombuffer(bytes(pending[skip : skip + whole * record.itemsize]), record)
                if by_input:
                    # An input's last rows wait for what follows.
                    records = records[: np.searchsorted(records["input"], records["input"][-1])]
                if len(records):
                    yield records
                    del pending[: skip + len(records) * record.itemsize]
                    skip = 0
    complete = len(pending) - skip - len(_TRAILER)
    if complete > 0:
        yield np.frombuffer(bytes(pending[skip : skip + complete]), record)


def _take_arrived(connection: Connection, pending: bytearray) -> None:
    """Takes the rows that have arrived already: waiting for each row costs several times as much as the row itself.

    The trailer comes as a message of its own; the end behind it is left to psycopg. An end without it is an error.
    """
    while len(pending) < _CHUNK_BYTES and not pending.endswith(_TRAILER):
        size, row = connection.pgconn.get_copy_data(1)
        if size < 0:
            error = connection.pgconn.get_result()
            while connection.pgconn.get_result() is not None:
                pass
            raise OperationalError("PostgreSQL broke off a COPY.") if error is None else error_from_result(error)
        if size == 0:
            return
        pending += row


def _numbers(values: NDArray[np.int64]) -> sql.Composed:
    return sql.SQL("{}::bigint[]").format(sql.Literal(number_array(values.tolist())))


def _halfvec(direction: NDArray[np.float16]) -> sql.Composed:
    text = "[" + ",".join(map(repr, direction.astype(np.float64).tolist())) + "]"
    return sql.SQL("{}::halfvec({})").format(sql.Literal(text), sql.Literal(len(direction)))


def _products(records: NDArray[np.void]) -> ProductRows:
    names = [name for name in records.dtype.names or () if name.startswith("product_")]
    values = [records[name].astype(np.float64) for name in names]
    return ProductRows(
        area_ids=records["area"].astype(np.int64),
        input_numbers=records["input"].astype(np.int64),
        created_us=records["created"].astype(np.int64),
        products=np.stack(values, axis=1) if values else np.empty((len(records), 0)),
    )


def _record(dims: int, columns: tuple[str, ...]) -> np.dtype[np.void]:
    """One row of binary COPY: every value of fixed width, each behind its length, all big-endian."""
    fields: list[tuple[str, str] | tuple[str, str, int]] = [("fields", ">i2")]
    for name in columns:
        fields += [(f"{name}_bytes", ">i4"), (name, ">i8")]
    fields += [("vector_bytes", ">i4"), ("dims", ">i2"), ("unused", ">i2"), ("vector", ">f2", dims)]
    return np.dtype(fields)


def _product_record(count: int) -> np.dtype[np.void]:
    """One row of binary COPY with ``count`` products, as PostgreSQL's double precision."""
    fields = [("fields", ">i2")]
    for name in _PLACE:
        fields += [(f"{name}_bytes", ">i4"), (name, ">i8")]
    for i in range(count):
        fields += [(f"bytes_of_{i}", ">i4"), (f"product_{i}", ">f8")]
    return np.dtype(fields)
