"""The program of examples/ that trains a model, against the server."""

from __future__ import annotations

from pathlib import Path

from tests.contract import programs
from tests.contract.clients import App
from tests.contract.conftest import Library
from tests.contract.serving import Server


def test_teaching(server: Server, library: Library, reader: App) -> None:
    done = programs.python("teach.py", Path()).run(server.client_environment(OWN_CONCEPT="favourite"))

    assert done.returncode == 0, done.errors
    before, after = done.tables
    assert before == "by what was known before"
    assert after == "by what 3 photos taught"
    for rows in done.tables.values():
        assert len(rows) == 10
        assert not {row.input_id for row in rows} & library.favourites
    assert [row.score for row in done.tables[before]] != [row.score for row in done.tables[after]]
    mine = reader.call("ListModels", per_page=1000)
    assert not [model for model in mine.models if model.id.startswith("example-")]


def test_a_failed_answer_ends_it_with_1(server: Server, library: Library) -> None:
    wrong = server.client_environment(OWN_CONCEPT="favourite") | {"CLARIFAI_PAT": "0" * 32}
    done = programs.python("teach.py", Path()).run(wrong)
    assert done.returncode == 1
    assert "11008 Invalid API key or Invalid API key/application pair" in done.errors
