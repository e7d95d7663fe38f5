"""The tables of the documentation, made from the code: settings, commands, errors, and what filters can ask for.

    python -m tools.docs           prints the pages as they should be
    python -m tools.docs --write   brings the pages up to date (`make docs`)

A table stands between `<!-- name -->` and `<!-- /name -->`; the text around it is written by hand.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from sightrank import errors
from sightrank.search.fields import FIELDS
from sightrank.settings import Settings

PAGES = Path(__file__).parent.parent / "docs"

#: Defaults that depend on the machine, in words.
DEFAULTS = {"data_dir": "`/var/lib/sightrank` as root, else `~/.local/share/sightrank`"}


def settings_table() -> str:
    rows = []
    for name, field in Settings.model_fields.items():
        default = DEFAULTS.get(name)
        if default is None:
            assert field.default is not PydanticUndefined, f"describe the default of {name} in tools/docs.py"
            default = "" if field.default in ("", None) else f"`{field.default}`"
        rows.append((f"`SIGHTRANK_{name.upper()}`", default, field.description or ""))
    return _table(("Variable", "Default", "Meaning"), rows)


def commands_table() -> str:
    """Every command of the program with its options, as the command line itself describes them."""
    from sightrank import cli

    return _table(("Command", "What it does", "Options"), list(_commands(_click_group(cli), "sightrank")))


def errors_table() -> str:
    ordered = sorted(error_classes(), key=lambda error: (error.code, error.http_status))
    rows = [(str(error.code), str(error.http_status), f"`{error.__name__}`", error.description) for error in ordered]
    return _table(("`status.code`", "HTTP", "Class", "`status.description`"), rows)


def filters_table() -> str:
    """Every field of a filter in the order of the table it comes from; alternatives stand together."""
    rows = [(f"`{row.path}`", row.sentence) for row in FIELDS.values()]
    return _table(("Field of a filter", "What it asks for"), rows)


def error_classes() -> list[type[errors.AppError]]:
    """Every error that an answer can carry."""
    members = inspect.getmembers(errors, inspect.isclass)
    return [found for _, found in members if issubclass(found, errors.AppError) and found is not errors.AppError]


def command_names() -> list[str]:
    from sightrank import cli

    return [name for name, _, _ in _commands(_click_group(cli), "sightrank")]


#: The pages that have tables, and how these are made.
TABLES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "settings.md": {"settings": settings_table, "commands": commands_table, "errors": errors_table},
    "search.md": {"filters": filters_table},
}


def page(name: str) -> str:
    """The text of a page with its tables made anew."""
    text = (PAGES / name).read_text()
    for table, make in TABLES[name].items():
        pattern = re.compile(rf"<!-- {table} -->\n.*?<!-- /{table} -->", re.DOTALL)
        if not pattern.search(text):
            raise SystemExit(f"{name} has no place for the table of {table} (<!-- {table} --> … <!-- /{table} -->)")
        text = pattern.sub(f"<!-- {table} -->\n{make()}\n<!-- /{table} -->".replace("\\", r"\\"), text)
    return text


def _click_group(cli: Any) -> Any:
    """The command line as click sees it. Typer keeps its own copy of click, so nothing here asks for classes."""
    import typer

    return typer.main.get_command(cli.cli)


def _commands(command: Any, name: str) -> Iterator[tuple[str, str, str]]:
    for part, sub in getattr(command, "commands", {}).items():
        if hasattr(sub, "commands"):
            yield from _commands(sub, f"{name} {part}")
        elif not sub.hidden:
            options = [_parameter(parameter) for parameter in sub.params if parameter.name != "help"]
            summary = (sub.help or "").strip().split("\n\n")[0].replace("\n", " ")
            yield f"`{name} {part}`", summary, " ".join(options)


def _parameter(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return f"`{max(parameter.opts, key=len)}`"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Text for a table of Markdown: nothing in it is taken for a column's end or for HTML."""
    text = text.replace("|", "\\|")
    return text if text.startswith("`") else text.replace("<", "&lt;")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the pages instead of printing them")
    write = parser.parse_args(arguments).write
    for name in TABLES:
        text = page(name)
        if write:
            (PAGES / name).write_text(text)
        else:
            sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
