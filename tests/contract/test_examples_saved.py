"""The programs of examples/ that filter and save, against the server."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.contract import programs
from tests.contract.clients import App
from tests.contract.conftest import Library
from tests.contract.programs import EXAMPLES, Program
from tests.contract.serving import Server

TABLES = {
    "python/filter_and_save.py": [
        "by a label",
        "by no such label, people first",
        "by metadata",
        "by place",
        "by the saved search",
    ],
    "curl/saved_search.sh": ["by the saved search", "by the same, people first"],
}


def program(name: str) -> Program:
    if name.endswith(".py"):
        return programs.python(Path(name).name, Path())
    programs.curl(Path())  # skips where there is no curl
    return Program([EXAMPLES / name])


@pytest.mark.parametrize("name", TABLES)
def test_filtering_and_saving(name: str, server: Server, library: Library, reader: App) -> None:
    done = program(name).run(server.client_environment(OWN_CONCEPT="favourite"))

    assert done.returncode == 0, done.errors
    assert list(done.tables) == TABLES[name]
    found = {title: {row.input_id for row in rows} for title, rows in done.tables.items()}
    assert found["by the saved search"] == library.favourites
    assert {row.score for row in done.tables["by the saved search"]} == {1.0}
    if "by a label" in found:
        others = found["by no such label, people first"]
        assert found["by a label"] == library.favourites
        assert len(others) == 10
        assert not others & library.favourites
        assert found["by metadata"] == found["by place"] == set()
    else:
        assert found["by the same, people first"] == library.favourites
    assert list(reader.call("ListSearches").searches) == []


@pytest.mark.parametrize("name", TABLES)
def test_a_failed_answer_ends_a_program_with_1(name: str, server: Server, library: Library) -> None:
    wrong = {"CLARIFAI_PAT": "0" * 32, "CLARIFAI_API_KEY": "0" * 32, "OWN_CONCEPT": "favourite"}
    done = program(name).run(server.client_environment() | wrong)
    assert done.returncode == 1
    assert "11008 Invalid API key or Invalid API key/application pair" in done.errors
