"""What `sightrank doctor` says of indexes and matrices, and who writes down what there is to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.integration.searching import Process, like, process, random_unit

from sightrank.doctor import Finding, examine
from sightrank.search.follow import MatrixState
from sightrank.search.matrix_report import MatrixReport
from sightrank.search.vector_indexes import VectorIndexes
from sightrank.settings import Settings
from sightrank.store import indexes, queries, vector_index
from sightrank.store.database import Database

Examine = Callable[..., Awaitable[list[Finding]]]


@pytest.fixture
def look(database_url: str, tmp_path: Path) -> Examine:
    async def examined(**settings: Any) -> list[Finding]:
        return await examine(Settings(database_url=database_url, data_dir=tmp_path, **settings))

    return examined


def test_a_folder_that_no_server_has_used_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "mistyped"

    findings = asyncio.run(examine(Settings(data_dir=folder)))

    (said,) = of(findings, "data directory")
    assert said.startswith(f"no server has been started in {folder}. Start a server there")
    assert [finding.well for finding in findings if finding.what == "data directory"] == [False]
    assert not folder.exists()


async def new_app(one: Process, app_id: str) -> int:
    """The bucket of an app of the user `me`."""
    bucket = await one.new_bucket()
    await one.database.execute("INSERT INTO users (id) VALUES ('me') ON CONFLICT DO NOTHING")
    await one.database.execute(
        "INSERT INTO apps (user_id, id, first_bucket, workflow_id) VALUES ('me', %s, %s, 'General')", [app_id, bucket]
    )
    return bucket


def of(findings: list[Finding], what: str) -> list[str]:
    return [finding.detail for finding in findings if finding.what.startswith(what)]


@dataclass
class States:
    """What a process would say it has."""

    now: list[MatrixState] = field(default_factory=list)

    def __call__(self) -> list[MatrixState]:
        return self.now


def state(bucket: int, **changed: Any) -> MatrixState:
    values: dict[str, Any] = {"embedder_id": 1, "version": 1, "rows": 10, "bytes": 5000, "ranker": "exact"}
    return MatrixState(bucket=bucket, **{**values, **changed})


# Indexes --------------------------------------------------------------------------------------------------------------


def test_exactly_the_indexes_that_migrations_make_are_expected(database_url: str) -> None:
    async def scenario() -> tuple[set[str], set[str]]:
        async with process(database_url) as one:
            rows = await one.database.rows(queries.load("doctor")["indexes"])
            return {name for name, _, _ in rows}, set(indexes.expected([one.table.id]))

    there, expected = asyncio.run(scenario())

    assert there == expected


def test_the_statement_for_a_missing_index_makes_it_again(database_url: str, look: Examine) -> None:
    async def scenario() -> tuple[list[Finding], list[Finding]]:
        async with process(database_url) as one:
            statements = [made for made in indexes.expected([one.table.id]).values() if made]
            assert len(statements) > 30
            for name in indexes.expected([one.table.id]):
                if not name.endswith(("_pkey", "_key")):
                    await one.database.execute(f"DROP INDEX {name}")
            broken = await look()
            for detail in of(broken, "indexes"):
                await one.database.execute(detail.split("run: ", 1)[1])
            return broken, await look()

    broken, mended = asyncio.run(scenario())

    missing = of(broken, "indexes")
    assert "annotations_by_search_keys is missing; run: CREATE INDEX annotations_by_search_keys ON annotations" in (
        "\n".join(missing)
    )
    assert any(detail.startswith("vectors_1_by_version is missing") for detail in missing)
    assert not any(finding.well for finding in broken if finding.what == "indexes")
    assert of(mended, "indexes")[0].startswith("all valid")


def test_an_invalid_index_is_named_with_its_remedy(database_url: str, look: Examine) -> None:
    async def scenario() -> list[Finding]:
        async with process(database_url) as one:
            await one.add(await new_app(one, "photos"), random_unit(1), random_unit(1))
            # Two equal values: the build fails and leaves its index behind.
            with pytest.raises(psycopg.errors.UniqueViolation):
                await one.database.execute("CREATE UNIQUE INDEX CONCURRENTLY mine ON vectors_1 (bucket)")
            with pytest.raises(psycopg.errors.UniqueViolation):
                await one.database.execute("CREATE UNIQUE INDEX CONCURRENTLY vectors_1_near_1 ON vectors_1 (bucket)")
            return await look()

    findings = asyncio.run(scenario())

    assert of([finding for finding in findings if not finding.well], "indexes") == [
        "mine is invalid; run: REINDEX INDEX CONCURRENTLY mine",
        "vectors_1_near_1 is invalid; run: DROP INDEX CONCURRENTLY vectors_1_near_1,"
        " or wait: the next server that ranks the app by SQL builds it anew",
    ]


# Matrices -------------------------------------------------------------------------------------------------------------


def test_the_state_of_every_matrix_is_told(database_url: str, look: Examine) -> None:
    async def scenario() -> list[Finding]:
        async with process(database_url) as one, process(database_url) as other:
            bucket = await new_app(one, "photos")
            await one.add(bucket, *(random_unit(seed) for seed in range(5)))
            for serving, name in ((one, "one"), (other, "other")):
                await serving.hits(bucket, like(random_unit(1)))
                await MatrixReport(serving.database, serving.matrices.states, process=name).write()
            await one.add(bucket, random_unit(8))
            await one.add(bucket, random_unit(9))
            await one.hits(bucket, like(random_unit(1)))
            await MatrixReport(one.database, one.matrices.states, process="one").write()
            return await look()

    findings = asyncio.run(scenario())

    (fresh,) = of(findings, "matrix of me/photos in process one")
    (behind,) = of(findings, "matrix of me/photos in process other")
    assert fresh.startswith("7 areas, ranked in memory (exact), 0.0 MB, up to date")
    assert behind.startswith("5 areas, ranked in memory (exact), 0.0 MB, 2 commits behind")


def test_apps_that_postgresql_ranks_are_told_with_their_index(database_url: str, look: Examine) -> None:
    async def scenario() -> tuple[list[Finding], list[Finding]]:
        async with process(database_url) as one:
            bucket = await new_app(one, "large")
            await one.add(bucket, *(random_unit(seed) for seed in range(50)))
            await one.database.execute("ANALYZE")
            states = States([state(bucket, rows=50, bytes=0, ranker="sql")])
            await MatrixReport(one.database, states, process="one").write()
            before = await look(matrix_memory_bytes=1000)
            await VectorIndexes(one.database, states, least_rows=50).tend()
            return before, await look()

    before, after = asyncio.run(scenario())

    assert of(before, "matrix of me/large") == ["50 areas, ranked by PostgreSQL without an index, nothing in memory"]
    assert of(after, "matrix of me/large") == ["50 areas, ranked by PostgreSQL by its index, nothing in memory"]
    (beyond,) = of(before, "app me/large")
    assert beyond.startswith("its 50 areas need 0.0 MB, more than SIGHTRANK_MATRIX_MEMORY_BYTES (0.0 MB)")
    assert of(after, "app me/large") == []
    assert all(finding.well for finding in after)


async def reported(database: Database) -> list[tuple[str, int, int, str]]:
    return await database.rows("SELECT process, bucket, rows, ranker FROM matrices ORDER BY process, bucket")


def test_a_process_reports_what_it_has_and_takes_it_along(database_url: str) -> None:
    async def scenario() -> list[list[Any]]:
        async with process(database_url) as one:
            states = States([state(1), state(2, rows=20)])
            report = MatrixReport(one.database, states, process="me")
            other = MatrixReport(one.database, States([state(1, rows=11)]), process="you")
            await report.write()
            await other.write()
            seen = [await reported(one.database)]
            states.now = [state(2, rows=21, ranker="graph"), state(3, ranker="sql")]
            await report.write()
            seen.append(await reported(one.database))
            await report.close()
            seen.append(await reported(one.database))
        return seen

    assert asyncio.run(scenario()) == [
        [("me", 1, 10, "exact"), ("me", 2, 20, "exact"), ("you", 1, 11, "exact")],
        [("me", 2, 21, "graph"), ("me", 3, 10, "sql"), ("you", 1, 11, "exact")],
        [("you", 1, 11, "exact")],
    ]


def test_what_a_killed_process_left_is_not_told_and_goes(database_url: str, look: Examine) -> None:
    async def scenario() -> tuple[list[Finding], list[Any]]:
        async with process(database_url) as one:
            bucket = await new_app(one, "photos")
            await MatrixReport(one.database, States([state(bucket)]), process="killed").write()
            await one.database.execute("UPDATE matrices SET seen_at = now() - interval '10 minutes'")
            findings = await look()
            await MatrixReport(one.database, States([state(bucket)]), process="alive").write()
            return findings, await reported(one.database)

    findings, left = asyncio.run(scenario())

    assert of(findings, "matrix of") == []
    assert [name for name, *_ in left] == ["alive"]


def test_rows_lost_in_a_crash_of_the_database_are_written_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightrank.search.matrix_report._SEEN_EVERY_S", 0.0)

    async def scenario() -> list[Any]:
        async with process(database_url) as one:
            report = MatrixReport(one.database, States([state(1)]), process="me")
            await report.write()
            # PostgreSQL empties unlogged tables when it recovers.
            await one.database.execute("TRUNCATE matrices")
            await report.write()
            return await reported(one.database)

    assert asyncio.run(scenario()) == [("me", 1, 10, "exact")]


# Indexes of vectors ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def large_app(url: str) -> AsyncIterator[tuple[Process, int]]:
    async with process(url) as one:
        bucket = await new_app(one, "large")
        await one.add(bucket, *(random_unit(seed) for seed in range(60)))
        yield one, bucket


async def there(database: Database) -> list[vector_index.VectorIndex]:
    async with database.connection() as connection:
        return await vector_index.existing(connection)


def complete(bucket: int) -> vector_index.VectorIndex:
    return vector_index.VectorIndex(name=f"vectors_1_near_{bucket}", valid=True, wanted=True)


def test_only_apps_that_are_large_and_ranked_by_postgresql_get_an_index(database_url: str) -> None:
    async def scenario() -> None:
        async with large_app(database_url) as (one, bucket):
            states = States([state(bucket, rows=60), state(bucket + 1, rows=59, ranker="sql")])
            tending = VectorIndexes(one.database, states, least_rows=60)
            await tending.tend()
            assert await there(one.database) == []

            states.now = [state(bucket, rows=60, ranker="sql")]
            await tending.tend()
            await tending.tend()

            assert await there(one.database) == [complete(bucket)]

    asyncio.run(scenario())


def test_any_number_of_processes_build_an_index_once(database_url: str) -> None:
    async def scenario() -> None:
        async with large_app(database_url) as (one, bucket):
            states = States([state(bucket, rows=60, ranker="sql")])
            await asyncio.gather(*(VectorIndexes(one.database, states, least_rows=1).tend() for _ in range(4)))

            assert await there(one.database) == [complete(bucket)]

    asyncio.run(scenario())


def test_an_index_goes_with_its_app(database_url: str) -> None:
    async def scenario() -> None:
        async with large_app(database_url) as (one, bucket):
            await VectorIndexes(one.database, States([state(bucket, ranker="sql")]), least_rows=1).tend()
            await one.database.execute("DELETE FROM apps")
            await one.database.execute("DELETE FROM app_buckets")
            assert [index.wanted for index in await there(one.database)] == [False]

            await VectorIndexes(one.database, States(), least_rows=1).tend()

            assert await there(one.database) == []

    asyncio.run(scenario())


def test_what_a_killed_build_left_is_built_anew(database_url: str) -> None:
    async def scenario() -> None:
        async with large_app(database_url) as (one, bucket):
            with pytest.raises(psycopg.errors.UniqueViolation):
                await one.database.execute(
                    f"CREATE UNIQUE INDEX CONCURRENTLY vectors_1_near_{bucket} ON vectors_1 (bucket)"
                )
            assert [index.valid for index in await there(one.database)] == [False]

            await VectorIndexes(one.database, States([state(bucket, ranker="sql")]), least_rows=1).tend()

            assert await there(one.database) == [complete(bucket)]

    asyncio.run(scenario())


def test_a_build_is_told_and_given_up_when_the_server_stops(database_url: str, look: Examine) -> None:
    async def scenario() -> None:
        async with large_app(database_url) as (one, bucket):
            states = States([state(bucket, ranker="sql")])
            # A build waits for every transaction that began to write before it.
            async with one.database.transaction() as connection:
                await connection.execute("UPDATE vectors_1 SET created_us = created_us + 1")
                task = asyncio.create_task(VectorIndexes(one.database, states, least_rows=1).keep_built())
                async with asyncio.timeout(60):
                    while True:
                        if await there(one.database):
                            break
                        await asyncio.sleep(0.01)
                meanwhile = await look()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            builders = await one.database.rows(
                "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%' AND state = 'active'"
                " AND datname = current_database()"
            )
            await VectorIndexes(one.database, states, least_rows=1).tend()

            assert of(meanwhile, "indexes")[0].startswith(f"all valid; being built: vectors_1_near_{bucket} (")
            assert builders == []
            assert await there(one.database) == [complete(bucket)]

    asyncio.run(scenario())
