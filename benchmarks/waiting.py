"""Waiting for what the server builds in the background: a graph over the matrix, an index in PostgreSQL."""

from __future__ import annotations

import time

import psycopg

from benchmarks.server import APP, USER

_PATIENCE_S = 900.0
_LOOK_EVERY_S = 0.2
_RANKERS = """
SELECT m.ranker FROM matrices m JOIN apps a ON a.first_bucket = m.bucket WHERE a.user_id = %s AND a.id = %s
"""
_INDEXES = """
SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN apps a ON c.relname LIKE 'vectors\\_%%\\_near\\_' || a.first_bucket WHERE a.user_id = %s AND a.id = %s
"""


def until_ranked_by(url: str, ranker: str) -> float:
    """Seconds until the server says that it ranks the app by ``ranker``: "exact", "graph" or "sql"."""
    started = time.monotonic()
    with psycopg.connect(url, autocommit=True) as connection:
        while not _is_ready(connection, ranker):
            if time.monotonic() - started > _PATIENCE_S:
                raise RuntimeError(f"The server did not come to rank by {ranker} in {_PATIENCE_S:.0f} s.")
            time.sleep(_LOOK_EVERY_S)
    return time.monotonic() - started


def _is_ready(connection: psycopg.Connection, ranker: str) -> bool:
    found = connection.execute(_RANKERS, [USER, APP]).fetchall()
    if not found or any(name != ranker for (name,) in found):
        return False
    indexes = connection.execute(_INDEXES, [USER, APP]).fetchall() if ranker == "sql" else [(True,)]
    return bool(indexes) and all(valid for (valid,) in indexes)
