"""HNSW indexes, one for each bucket and embedder that PostgreSQL ranks: ``vectors_<embedder>_near_<bucket>``.

They are built and dropped CONCURRENTLY, which holds up no writer and no search, but cannot be part of a transaction: a
build that is killed leaves an invalid index behind, which the next build replaces. Inner products, because stored
vectors have length one; a zero vector, which has no cosine, is in the index too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from psycopg import sql

from sightrank.store import queries
from sightrank.store.database import Connection

#: What these indexes are called, and nothing else is.
NAME = re.compile(r"vectors_(\d+)_near_(\d+)")
_SQL = queries.load("matrices")


@dataclass(frozen=True, slots=True, kw_only=True)
class VectorIndex:
    """An index there is; ``valid`` says whether it is complete, ``wanted`` whether its bucket still exists."""

    name: str
    valid: bool
    wanted: bool


def name_of(embedder_id: int, bucket: int) -> str:
    return f"vectors_{embedder_id}_near_{bucket}"


async def existing(connection: Connection) -> list[VectorIndex]:
    """All indexes of this kind."""
    rows = await (await connection.execute(_SQL["vector_indexes"])).fetchall()
    return [VectorIndex(name=name, valid=valid, wanted=wanted) for name, valid, wanted in rows]


async def create(connection: Connection, embedder_id: int, bucket: int) -> None:
    """Builds the index of a bucket on a connection in autocommit mode: minutes for millions of vectors."""
    await connection.execute(
        sql.SQL(
            "CREATE INDEX CONCURRENTLY {} ON {} USING hnsw (vector halfvec_ip_ops)"
            " WITH (m = 24, ef_construction = 200) WHERE bucket = {}"
        ).format(
            sql.Identifier(name_of(embedder_id, bucket)), sql.Identifier(f"vectors_{embedder_id}"), sql.Literal(bucket)
        )
    )


async def drop(connection: Connection, name: str) -> None:
    """Drops an index, valid or not, on a connection in autocommit mode."""
    await connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.Identifier(name)))
