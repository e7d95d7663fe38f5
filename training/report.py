"""Measurements as Markdown."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """Lines of Markdown, printed as they come."""

    lines: list[str] = field(default_factory=list)

    def say(self, line: str = "") -> None:
        self.lines.append(line)
        print(line, flush=True)

    def table(self, head: list[str], rows: list[list[str]]) -> None:
        for row in [head, ["---"] * len(head), *rows]:
            self.say("| " + " | ".join(row) + " |")
        self.say()
