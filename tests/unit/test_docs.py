"""The documentation says what the program has, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tools import docs

from sightrank.search.fields import FIELDS
from sightrank.settings import Settings

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
SETTINGS = (docs.PAGES / "settings.md").read_text()
SEARCH = (docs.PAGES / "search.md").read_text()


@pytest.mark.parametrize("name", docs.TABLES)
def test_the_tables_are_those_of_the_code(name: str) -> None:
    assert docs.page(name) == (docs.PAGES / name).read_text(), "run `make docs`"


@pytest.mark.parametrize("path", FIELDS)
def test_every_field_of_a_filter_is_documented(path: str) -> None:
    row = next(line for line in SEARCH.splitlines() if line.startswith(f"| `{path}` |"))
    assert row.rstrip(" |").endswith(".")


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name: str) -> None:
    assert f"| `SIGHTRANK_{name.upper()}` |" in SETTINGS
    assert Settings.model_fields[name].description


@pytest.mark.parametrize("command", docs.command_names())
def test_every_command_is_documented(command: str) -> None:
    assert f"| {command} |" in SETTINGS
    row = next(line for line in SETTINGS.splitlines() if line.startswith(f"| {command} |"))
    assert row.split(" | ")[1].strip(), f"{command} has no help text"


@pytest.mark.parametrize("error", docs.error_classes(), ids=lambda error: error.__name__)
def test_every_error_is_documented(error: type[Exception]) -> None:
    assert f"`{error.__name__}`" in SETTINGS


@pytest.mark.parametrize("variable", sorted(set(re.findall(r"SIGHTRANK_[A-Z_]+[A-Z]", SETTINGS))))
def test_no_documented_setting_is_made_up(variable: str) -> None:
    assert variable.removeprefix("SIGHTRANK_").lower() in Settings.model_fields


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, heading = target.partition("#")
        file = (page.parent / name) if name else page
        assert file.exists(), f"{page.name} links to {target}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert heading in {_anchor(text) for text in headings}, f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_pages_compiles(page: Path) -> None:
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        compile(code, page.name, "exec")


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
