"""Models, evaluations and workflows are read by index, however many other apps have of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from psycopg import sql
from tests.integration.explaining import OF_APPS, Read, compared_in_vain, looked_at, on_grown_apps, reads, strays, teach

from sightrank.store import queries
from sightrank.store.database import Database
from sightrank.store.vectors import EmbedderTable
from sightrank.teach.training_queue import UNFITTED, UNFITTED_IN_CHANGE

TABLE = EmbedderTable(id=1, dims=4)
MODELS, VERSIONS = 50, 200  # of an app
_KEYS = {"bucket": 1, "id": "1-7-2", "owner": "me", "lease_s": 30}
_ROOM = {"most": 10_000, "effort_of_concept": 5_000, "patience_s": 600}
_LEASE: dict[str, object] = {"owner": "me", "lease_s": 30, "workflow_ids": ["General"], "served": [2], **_ROOM}
_UNFITTED: dict[str, object] = {**_LEASE, "embedder_ids": [1], "attempts": 4}
_OF_ONE: dict[str, object] = {"bucket": 1, "owner": "me", "lease_s": 30, **_ROOM}
_FLOW = {"bucket": 1, "workflow_id": "1-7", "version_id": ""}
_PAGE = {"bucket": 1, "id": "%", "public_only": False, "visibility": 0, "text": ""}
_SAID = {"bucket": 1, "id": "1-7", "version_id": "version-2", "created_at": "-infinity", "after_id": ""}
#: Statements about one model, version, evaluation or workflow.
_HOT: list[tuple[str, str, dict[str, object]]] = [
    ("fits", "fit", {"bucket": 1, "version_id": "1-7-2", "embedder_id": 1, "made_at": "1970-01-01 00:00:02Z"}),
    ("fits", "head", {"bucket": 1, "version_id": "1-7-2", "embedder_id": 1}),
    ("fits", "version", {"bucket": 1, "version_id": "1-7-2"}),
    ("models", "find", {"bucket": 1, "model_ids": ["1-7", "1-8"], "version_ids": ["", ""]}),
    ("models", "lock", {"bucket": 1, "ids": ["1-7"]}),
    ("model_ids", "lock", {"bucket": 1, "ids": ["1-7"]}),
    ("model_ids", "lock_versions", {"bucket": 1, "ids": ["1-7"]}),
    ("model_ids", "rename", {"bucket": 1, "id": "1-7", "new_id": "renamed"}),
    ("model_ids", "rename_in_inputs", {"bucket": 1, "numbers": [8]}),
    ("workflows", "hold_models", {"bucket": 1, "ids": ["1-7"]}),
    ("models", "waiting", {"bucket": 1}),
    ("training", "claim", _OF_ONE),
    ("training", "wait_for", {**_KEYS, "numbers": [8], "reason": ""}),
    ("training", "wait_as_large", {**_KEYS, "effort": 1}),
    ("training", "keep", {**_KEYS, "progress": 0.5}),
    ("training", "hold", _KEYS),
    ("training", "hand_back", {**_KEYS, "pause_s": 0, "blameless": True}),
    ("training", "trained", {**_KEYS, "inputs": 1, "examples": b"", "details": ""}),
    ("training", "failed", {**_KEYS, "status": 21106, "reason": "none"}),
    ("training", "fitted_anew", _KEYS),
    (
        "evaluations",
        "waiting",
        {"bucket": 1, "version_id": "1-7-2", "request": b"", "dataset_id": "", "dataset_version_id": ""},
    ),
    ("evaluations", "claim", _OF_ONE),
    ("evaluations", "version", {"bucket": 1, "model_id": "1-7", "version_id": ""}),
    ("evaluations", "metrics", {"bucket": 1, "id": "e-1-7-2"}),
    ("evaluations", "latest", {"bucket": 1, "version_ids": ["1-7-2"]}),
    ("evaluations", "renew", {**_KEYS, "id": "e-1-7-2"}),
    ("evaluations", "examples", {"bucket": 1, "version_id": "1-7-2"}),
    ("evaluations", "finish", {**_KEYS, "id": "e-1-7-2", "details": "", "metrics": b"", "summary": "{}"}),
    ("evaluations", "fail", {**_KEYS, "id": "e-1-7-2", "status": 21317, "details": "none"}),
    ("evaluations", "put_off", {**_KEYS, "id": "e-1-7-2", "pause_s": 0, "blameless": True}),
    ("workflows", "versions", {"bucket": 1}),
    ("workflows", "synonyms", {"bucket": 1, "knowledge_graph_id": ""}),
    ("workflows", "nodes", _FLOW),
    ("workflows", "version_messages", {"bucket": 1, "version_ids": ["1-7-2", "1-8-2"]}),
    ("workflows", "lock", {"bucket": 1, "ids": ["1-7"]}),
    ("workflows", "read", {"bucket": 1, "ids": ["1-7"]}),
    ("workflows", "bases", {"bucket": 1}),
    ("workflows", "names_others", {"bucket": 1, "version_id": "1-7-2", "stored": b"x"}),
    ("workflows", "read_versions", {**_FLOW, "ids": None}),
    ("workflows", "version_ids", _FLOW),
    ("workflows", "lock_versions", _FLOW),
]


def whole(found: list[Read]) -> list[Read]:
    """Tables of apps that are read from end to end."""
    return [read for read in found if read.node == "Seq Scan" and read.table in OF_APPS]


def test_statements_about_one_thing_read_by_index(database_url: str) -> None:
    async def scenario(database: Database) -> dict[str, Any]:
        await teach(database)
        wrong: dict[str, Any] = {}
        for noun, name, parameters in _HOT:
            found = await reads(database, queries.load(noun)[name], parameters)
            assert found, name
            if strays(found) or looked_at(found) > 150:
                wrong[f"{noun}.{name}"] = found
        return wrong

    assert on_grown_apps(database_url, scenario) == {}


def test_what_is_read_of_a_whole_app_reads_no_other(database_url: str) -> None:
    listed = sql.SQL("{} ORDER BY w.created_at, w.id LIMIT 20").format(sql.SQL(queries.load("workflows")["list"]))
    since = sql.SQL(queries.load("workflows")["labelled_since"]).format(vectors=TABLE.name)
    asked: list[tuple[str, Any, dict[str, object], int]] = [
        ("heads", queries.load("fits")["heads"], {"bucket": 1, "embedder_id": 1}, 2 * VERSIONS),
        ("any_unfitted", queries.load("training")["any_unfitted"], _UNFITTED | {"bucket": 1, "embedder_id": 1}, 400),
        ("all_ids", queries.load("workflows")["all_ids"], {"bucket": 1}, MODELS),
        ("list", listed, _PAGE, 150),
        (
            "lock_nodes",
            queries.load("model_ids")["lock_nodes"],
            {"bucket": 1, "ids": ["1-7"], "after_id": ""},
            VERSIONS,
        ),
        ("evaluations", queries.load("model_ids")["rename_in_evaluations"], {"bucket": 1}, 2 * VERSIONS),
        ("versions", queries.load("model_ids")["versions"], {"bucket": 1, "id": "1-7"}, 50),
        ("follow", queries.load("model_ids")["follow"], _SAID, 200),
        ("labelled_since", since, {"bucket": 1, "version": 105900}, 400),
    ]

    async def scenario(database: Database) -> dict[str, Any]:
        await teach(database)
        wrong: dict[str, Any] = {}
        for name, statement, parameters, most in asked:
            found = await reads(database, statement, parameters)
            assert found, name
            if strays(found) or looked_at(found) > most:
                wrong[name] = found
        return wrong

    assert on_grown_apps(database_url, scenario) == {}


def test_of_a_workflow_with_many_versions_the_nodes_of_those_asked_for_are_read(database_url: str) -> None:
    many = (
        "INSERT INTO workflow_versions (bucket, id, workflow_id, nodes)"
        " SELECT 1, 'more-' || n, '1-7', 'nodes' FROM generate_series(1, 500) n"
    )
    statements = queries.load("workflows")
    asked = {"bucket": 1, "workflow_id": "1-7", "version_id": "more-7", "ids": ["more-7", "1-7-2"], "stored": b"nodes"}

    async def scenario(database: Database) -> tuple[Any, Any, float]:
        await teach(database)
        await database.execute(many)
        await database.execute("ANALYZE workflow_versions")
        versions = await database.rows(statements["read_versions"], asked)
        compared = await database.rows(statements["names_others"], asked)
        return versions, compared, looked_at(await reads(database, statements["names_others"], asked))

    versions, compared, read = on_grown_apps(database_url, scenario)

    assert [row[0] for row in versions] == ["more-7", "1-7-2"]
    assert (compared, read) == ([(False,)], 1)


def test_what_waits_is_found_without_a_look_at_the_rest(database_url: str) -> None:
    """Every process asks each second. What waits is in an index of its own, and few wait. Of an app that has something
    the next is claimed by its bucket, however long the queues of others are.
    """
    looks: dict[str, tuple[Any, dict[str, object]]] = {
        "training": (queries.load("training")["buckets_with_work"], _LEASE),
        "evaluations": (queries.load("evaluations")["buckets_with_work"], _LEASE),
        "nothing in change": (UNFITTED_IN_CHANGE, _UNFITTED),
    }
    of_an_app = {
        f"{noun}.{name}": (queries.load(noun)[name], parameters)
        for noun, name, parameters in _HOT
        if name in ("waiting", "claim")
    }
    assert len(of_an_app) == 4

    async def scenario(database: Database) -> dict[str, list[Read]]:
        await teach(database)
        found = {name: await reads(database, *asked) for name, asked in looks.items()}
        async with database.connection() as connection:
            await connection.execute("UPDATE model_versions SET status = 21103 WHERE bucket > 1")
            await connection.execute("UPDATE model_evaluations SET status = 21303 WHERE bucket > 1")
            await connection.execute("VACUUM ANALYZE model_versions, model_evaluations")
        return found | {name: await reads(database, *asked) for name, asked in of_an_app.items()}

    found = on_grown_apps(database_url, scenario)

    for name, read in found.items():
        assert whole(read) == [], name
        of_apps = [one for one in read if one.table in OF_APPS]
        assert looked_at(of_apps) <= 20, name
        assert name in looks or strays(read) == [], name
    assert not any(one.rows for one in found["nothing in change"] if one.table in OF_APPS)


def test_what_a_training_waits_for_is_found_among_what_is_pending(database_url: str) -> None:
    """In each app 15 of 1,500 inputs are pending, those of numbers like 12 in bucket 1, labelled with c-3."""
    pending = "SELECT array_agg(number) FROM inputs WHERE bucket = 1 AND status = 30001"
    asked = {"bucket": 1, "id": "1-7-3", "concept_ids": ["c-3", "c-8"], "dataset_id": "all", "dataset_version_id": ""}
    training = queries.load("training")

    async def scenario(database: Database) -> tuple[Any, list[Read], dict[str, list[Read]]]:
        await teach(database)
        await database.execute("UPDATE model_versions SET created_at = now() WHERE status = 21103")
        row = await database.row(pending)
        assert row is not None
        found = await database.row(training["awaited"], asked)
        read = await reads(database, training["awaited"], asked)
        await database.execute(
            "UPDATE model_versions SET awaited = %(numbers)s || ARRAY(SELECT 4 * n FROM generate_series(1, 85) n)"
            " WHERE id = '1-7-3'",
            {"numbers": row[0]},
        )
        waiting = {"look": await reads(database, training["buckets_with_work"], _LEASE)}
        waiting["claim"] = await reads(database, training["claim"], _OF_ONE)
        assert await database.rows("SELECT FROM model_versions WHERE lease_owner = 'me'") == []
        await database.execute("UPDATE inputs SET status = 30000 WHERE bucket = 1")
        assert await database.rows(training["buckets_with_work"], _LEASE) == [(1, "General"), (2, "General")]
        waiting["claim at last"] = await reads(database, training["claim"], _OF_ONE)
        assert await database.rows("SELECT id FROM model_versions WHERE lease_owner = 'me'") == [("1-7-3",)]
        return found, read, waiting

    found, read, waiting = on_grown_apps(database_url, scenario)

    numbers = np.frombuffer(found[0], ">i8")
    assert numbers.tolist() == list(range(12, 6004, 400))
    assert strays(read) == []
    assert looked_at([one for one in read if one.table in OF_APPS]) <= 15 * 4 + 10
    for name, of_name in waiting.items():
        assert whole(of_name) == [], name
        assert looked_at([one for one in of_name if one.table in OF_APPS]) <= 120, name


def test_an_app_in_change_is_looked_at_alone_and_all_together_once(database_url: str) -> None:
    async def scenario(database: Database) -> tuple[list[Read], ...]:
        await teach(database)
        await database.execute("DELETE FROM model_fits WHERE bucket = 3 AND model_version_id = '3-9-1'")
        await database.execute(
            "INSERT INTO reindexes (bucket, workflow_id, embedder_id, state) VALUES (3, 'General', 1, 'switching')"
        )
        assert await database.rows(UNFITTED_IN_CHANGE, _UNFITTED) == [(3, 1, TABLE.dims)]
        one = await reads(database, UNFITTED_IN_CHANGE, _UNFITTED)
        everywhere = await reads(database, UNFITTED, _UNFITTED)
        claim = queries.load("training")["claim_unfitted"]
        claimed = await reads(database, claim, _UNFITTED | _OF_ONE | {"bucket": 3, "embedder_id": 1})
        row = await database.row("SELECT bucket, id FROM model_versions WHERE lease_owner = 'me'")
        assert row == (3, "3-9-1")
        return one, everywhere, claimed

    one, everywhere, claimed = on_grown_apps(database_url, scenario)

    assert whole(one) == []
    assert strays(claimed) == []
    for of_one in (one, claimed):
        assert looked_at([read for read in of_one if read.table in OF_APPS]) <= 2 * VERSIONS + 10
    # The versions of all apps are compared once, by their index; of rows only that of the one that lacks a fit is read.
    versions = [read for read in everywhere if read.table == "model_versions"]
    assert looked_at(versions) <= 40 * VERSIONS + 10
    assert looked_at([read for read in versions if read.node != "Index Only Scan"]) == 1


def test_a_start_takes_back_what_was_leased_without_a_look_at_what_is_trained(database_url: str) -> None:
    release = queries.load("training")["release_all"]

    async def scenario(database: Database) -> tuple[list[Read], set[str]]:
        await teach(database)
        await database.execute(
            "INSERT INTO reindexes (bucket, workflow_id, embedder_id, state) VALUES (3, 'General', 1, 'switching')"
        )
        await database.execute(
            "UPDATE model_versions SET lease_owner = 'gone', lease_until = now() + interval '1 hour'"
            " WHERE id IN ('1-7-3', '3-9-1', '5-1-1')"
        )
        found = await reads(database, release)
        left = await database.rows("SELECT id FROM model_versions WHERE lease_owner IS NOT NULL OR lease_until > now()")
        return found, {id for (id,) in left}

    found, left = on_grown_apps(database_url, scenario)

    assert left == {"5-1-1"}, "fitted anew in an app that waits for nothing"
    assert looked_at([read for read in found if read.table in OF_APPS]) <= 2 * VERSIONS + 20


def test_the_background_of_a_training_is_read_by_index(database_url: str) -> None:
    async def scenario(database: Database) -> dict[str, list[Read]]:
        found = {}
        for name in ("others", "background"):
            statement = sql.SQL(queries.load("examples")[name]).format(vectors=TABLE.name)
            found[name] = await reads(database, statement, {"bucket": 1, "numbers": "{4,8}", "limit": 50})
        return found

    found = on_grown_apps(database_url, scenario)

    for name, read in found.items():
        assert strays(read) == [], name
    assert looked_at(found["others"]) <= 60
    assert looked_at(found["background"]) <= 50 * 2 + 50 * 4 + 2


def test_the_background_of_a_training_takes_as_long_as_it_is_large(database_url: str) -> None:
    """Cells and places were once compared each with each: 57 million pairs, 1.7 s, for the 8,000 of a training."""

    async def scenario(database: Database) -> float:
        statement = sql.SQL(queries.load("examples")["background"]).format(vectors=TABLE.name)
        return await compared_in_vain(database, statement, {"bucket": 1, "numbers": "{4,8}", "limit": 50})

    assert on_grown_apps(database_url, scenario) == 0
