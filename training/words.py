"""Make `general/words.json`: words that are no concept, each with the concept that is its more general one.

They come from the names of ImageNet's classes, as `label_map.json` reads them, and from `everyday_words.json`.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Tree:
    """The vocabulary's names, and how deep each lies below the most general ones."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self.names = {entry["name"].casefold() for entry in entries}
        self.ids = {entry["name"]: entry["id"] for entry in entries}
        self._above = {entry["name"]: entry.get("hypernyms", []) for entry in entries}
        self._name_of = {entry["id"]: entry["name"] for entry in entries}

    def ancestors(self, name: str) -> set[str]:
        """Names of everything above a concept."""
        found: set[str] = set()
        left = [name]
        while left:
            above = [self._name_of[identity] for identity in self._above[left.pop()]]
            left += [each for each in above if each not in found]
            found |= set(above)
        return found

    def narrowest(self, names: list[str]) -> str | None:
        """The concept that is not above another of them; None where several are."""
        known = [name for name in names if name in self.ids]
        above = set().union(*(self.ancestors(name) for name in known)) if known else set()
        left = [name for name in known if name not in above]
        # "canine" stands beside "dog" in the map, not above it in the tree: the first is the one meant.
        return left[0] if left else None


def collect(entries: list[dict[str, Any]], classes: dict[str, list[str]], everyday: dict[str, str]) -> dict[str, str]:
    """Word to the id of its concept, sorted."""
    tree = Tree(entries)
    last_words: defaultdict[str, Counter[str]] = defaultdict(Counter)
    found: dict[str, str] = {}
    for label, meant in classes.items():
        concept = tree.narrowest(meant)
        if concept is None:
            continue
        for name in (part.strip().casefold() for part in label.split(",")):
            found.setdefault(name, concept)
            last_words[name.split()[-1]][concept] += 1
    for word, concepts in last_words.items():
        # "terrier" is said of many classes and always of dogs; a word that means several things is left out.
        if len(concepts) == 1 and concepts.total() > 1:
            found.setdefault(word, next(iter(concepts)))
    found |= everyday
    return {word: tree.ids[concept] for word, concept in sorted(found.items()) if word not in tree.names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="the bundle with vocabulary.json")
    folder = parser.parse_args().folder
    entries = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    classes = json.loads((HERE / "label_map.json").read_text(encoding="utf-8"))["teachers"]["imagenet"]
    everyday = json.loads((HERE / "everyday_words.json").read_text(encoding="utf-8"))["words"]
    words = collect(entries, classes, everyday)
    (folder / "words.json").write_text(json.dumps(words, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(words)} words")


if __name__ == "__main__":
    main()
