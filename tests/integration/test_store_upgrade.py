"""A database of the first release is brought to this one with everything in it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from sightrank.store import migrate

_FIRST_RELEASE = """
INSERT INTO app_buckets (bucket) VALUES (1);
INSERT INTO inputs (bucket, number, id, created_at, modified_at, status, media)
VALUES (1, 1, 'beach', now(), now(), 30000, 'image');
INSERT INTO areas (bucket, id, input_number, created_at, region_id, box_top, box_left, box_bottom, box_right) VALUES
    (1, 1, 1, now(), NULL, NULL, NULL, NULL, NULL),
    (1, 2, 1, now(), 'boxed', 0.25, 0.5, 0.75, 1),
    (1, 3, 1, now(), 'point', NULL, NULL, NULL, NULL);
INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, input_level, trusted, data,
    metadata) VALUES
    (1, 1, 'whole', 1, now(), now(), 24150, true, true, NULL, '{"album": {"year": 2020.0}}'),
    (1, 1, 'by id', 2, now(), now(), 24150, false, true, '{"regions": [{"id": "boxed"}], "text": {"raw": "a"}}', NULL),
    (1, 1, 'posted', 3, now(), now(), 24150, false, true, '{"regions": [{"region_info": {"point": {}}}]}', NULL),
    (1, 1, 'predicted', 2, now(), now(), 24150, false, false, NULL, NULL);
"""
_BOX = {"top_row": 0.25, "left_col": 0.5, "bottom_row": 0.75, "right_col": 1}


_WITH_OWN_MODELS = """
INSERT INTO models (bucket, id, name, model_type_id) VALUES (1, 'general', 'general', 'embedding-classifier');
INSERT INTO model_versions (bucket, id, model_id, status) VALUES (1, 'mine', 'general', 21100);
INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status, trusted, model_id,
    model_version_id)
SELECT 1, 1, version, 1, now(), now(), 24150, false, 'general', version FROM unnest('{mine,installed}'::text[]) version;
"""


@pytest.fixture
def old_database(server_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database as the first release left it."""
    name = f"old_{uuid.uuid4().hex}"
    url = make_conninfo(server_url, dbname=name)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    upgrade_to(1, url, monkeypatch)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_FIRST_RELEASE)
    yield url
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def upgrade_to(number: int, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No further than this migration."""
    known = {one: migration for one, migration in migrate.available().items() if one <= number}
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "available", lambda: known)
        asyncio.run(migrate.upgrade(url))


def test_no_two_migrations_have_one_number() -> None:
    written = [path.stem for path in (Path(migrate.__file__).parent / "migrations").glob("*.sql")]

    assert sorted(written) == [name for name, _ in migrate.available().values()]


def test_upgrade_completes_what_annotations_say_of_their_regions(old_database: str) -> None:
    done = asyncio.run(migrate.upgrade(old_database))

    with psycopg.connect(old_database) as connection:
        data = dict(connection.execute("SELECT id, data FROM annotations").fetchall())
    assert done == [name for number, (name, _) in migrate.available().items() if number > 1]
    assert data == {
        "whole": None,
        "by id": {"regions": [{"id": "boxed", "region_info": {"bounding_box": _BOX}}], "text": {"raw": "a"}},
        "posted": {"regions": [{"region_info": {"point": {}}}]},
        "predicted": {"regions": [{"region_info": {"bounding_box": _BOX}}]},
    }


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ("ARRAY[data_key(1, 'region.bounding_box')]", ["by id", "predicted"]),
        ("ARRAY[data_key(1, 'text')]", ["by id"]),
        ("json_keys(1, 'm', '{\"album\": {\"year\": 2020}}')", ["whole"]),
        ("json_keys(1, 'm', '{\"album\": {\"year\": 2021}}')", []),
        ("json_keys(2, 'm', '{\"album\": {\"year\": 2020}}')", []),
    ],
)
def test_upgraded_annotations_are_found_by_their_keys(old_database: str, keys: str, found: list[str]) -> None:
    asyncio.run(migrate.upgrade(old_database))

    with psycopg.connect(old_database) as connection:
        rows = connection.execute(f"SELECT id FROM annotations WHERE search_keys @> {keys} ORDER BY id").fetchall()
    assert [name for (name,) in rows] == found


def test_a_key_stands_for_each_path_and_each_value(old_database: str) -> None:
    asyncio.run(migrate.upgrade(old_database))
    stored = {"a": [1, {"b": None}], "c": {}}

    with psycopg.connect(old_database) as connection:
        row = connection.execute("SELECT cardinality(json_keys(1, 'm', %s))", [json.dumps(stored)]).fetchone()

    # a, a[], a[]=1, a[].b=null, c: the path a[] stands for the object in the list.
    assert row == (5,)


def test_what_own_models_predicted_is_known_as_theirs(old_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    upgrade_to(10, old_database, monkeypatch)
    with psycopg.connect(old_database, autocommit=True) as connection:
        connection.execute(_WITH_OWN_MODELS)

    asyncio.run(migrate.upgrade(old_database))

    with psycopg.connect(old_database) as connection:
        own = connection.execute("SELECT id, own_model FROM annotations ORDER BY id").fetchall()
    assert [id for id, is_own in own if is_own] == ["mine"]
    assert "installed" in dict(own)
