"""The names of the vocabulary against Unicode CLDR's names of emoji (npm's cldr-annotations-full).

An emoji *named* like a concept (its English text-to-speech name) names the same thing in all languages. One that only
carries the concept's name among its English *keywords* (a knife has "kitchen") often lacks it elsewhere, so the bar
for these is lower. Differences are printed: run pytest with -s and judge them; CLDR is not always righter.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest

PINNED = Path(__file__).with_name("cldr") / "package.json"
FOLDERS = {"zh-TW": "zh-Hant"}  # where CLDR calls a language differently
MAX_KEYWORD_EMOJI = 12  # a keyword of more emoji than this names a theme, not a thing
# Marks that spellings differ in: European accents, Arabic vowel signs, the nukta of Devanagari and Gurmukhi, quotes.
MARKS = re.compile("[\u0300-\u0345\u064b-\u0655\u093c\u0a3c\u2019']")
# Measured with 48.2.0: .958 of 2354 pairs named alike, .749 of 2068 pairs by keyword, .860 together.
NAMED_AT_LEAST, KEYWORD_AT_LEAST, TOGETHER_AT_LEAST = 0.93, 0.70, 0.83

Annotations = dict[str, tuple[set[str], set[str]]]  # emoji -> folded names, folded keywords


@dataclass(frozen=True)
class Pair:
    """A concept's name in a language and what CLDR calls the same thing there."""

    concept: str
    language: str
    name: str
    spoken: frozenset[str]
    all: frozenset[str]

    @property
    def agrees(self) -> bool:
        return fold(self.name) in self.all


def fold(text: str) -> str:
    """Case, accents, spaces and hyphens do not make another word."""
    plain = MARKS.sub("", unicodedata.normalize("NFKD", text).casefold())
    plain = plain.replace("\u0901", "\u0902").replace("ø", "o").replace("ı", "i")
    return re.sub(r"[\s\-\u2013\u30fb]+", "", unicodedata.normalize("NFC", plain))


def read_annotations(root: Path, language: str) -> Annotations:
    folder = FOLDERS.get(language, language)
    document = json.loads((root / folder / "annotations.json").read_text(encoding="utf-8"))
    return {
        emoji: (set(map(fold, entry.get("tts", []))), set(map(fold, entry.get("default", []))))
        for emoji, entry in document["annotations"]["annotations"].items()
    }


def emoji_for(name: str, english: Annotations) -> tuple[str, list[str]]:
    """How CLDR knows the concept ("named", "keyword" or "unknown"), and the emoji."""
    wanted = fold(name)
    named = [emoji for emoji, (spoken, _) in english.items() if wanted in spoken]
    if named:
        return "named", named
    keyword = [emoji for emoji, (_, words) in english.items() if wanted in words]
    return ("keyword", keyword) if 0 < len(keyword) <= MAX_KEYWORD_EMOJI else ("unknown", [])


@pytest.fixture(scope="module")
def vocabulary() -> list[dict[str, object]]:
    text = files("sightrank.general").joinpath("vocabulary.json").read_text(encoding="utf-8")
    concepts: list[dict[str, object]] = json.loads(text)
    return concepts


@pytest.fixture(scope="module")
def annotations_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pinned package, installed once into SIGHTRANK_TEST_CACHE (or a temporary folder)."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    cache = os.environ.get("SIGHTRANK_TEST_CACHE")
    folder = Path(cache) / "cldr" if cache else tmp_path_factory.mktemp("cldr")
    folder.mkdir(parents=True, exist_ok=True)
    package = folder / "node_modules" / "cldr-annotations-full"
    version = json.loads(PINNED.read_text(encoding="utf-8"))["dependencies"]["cldr-annotations-full"]
    manifest = package / "package.json"
    if not manifest.exists() or json.loads(manifest.read_text(encoding="utf-8"))["version"] != version:
        shutil.copy(PINNED, folder / "package.json")
        command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"]
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180, check=False)
        except subprocess.TimeoutExpired:
            pytest.skip("npm install took more than 180 s")
        if done.returncode != 0:
            pytest.skip(f"npm install failed: {done.stderr.strip()[-300:]}")
    return package / "annotations"


@pytest.fixture(scope="module")
def pairs(annotations_root: Path, vocabulary: list[dict[str, object]]) -> dict[str, list[Pair]]:
    """All (concept, language) pairs that CLDR knows, by how it knows the concept."""
    english = read_annotations(annotations_root, "en")
    result: dict[str, list[Pair]] = defaultdict(list)
    known = {str(concept["name"]): emoji_for(str(concept["name"]), english) for concept in vocabulary}
    for language in languages_of(vocabulary):
        annotations = read_annotations(annotations_root, language)
        for concept in vocabulary:
            kind, emoji = known[str(concept["name"])]
            entries = [annotations[one] for one in emoji if one in annotations]
            if not entries:
                continue
            names = concept["names"]
            assert isinstance(names, dict)
            spoken = frozenset().union(*(entry[0] for entry in entries))
            words = spoken.union(*(entry[1] for entry in entries))
            result[kind].append(Pair(str(concept["name"]), language, names[language], spoken, words))
    return result


def languages_of(vocabulary: list[dict[str, object]]) -> list[str]:
    names = vocabulary[0]["names"]
    assert isinstance(names, dict)
    return [language for language in names if language != "en"]


def share(pairs: list[Pair]) -> float:
    return sum(pair.agrees for pair in pairs) / len(pairs)


def report(pairs: list[Pair]) -> None:
    for pair in pairs:
        if not pair.agrees:
            print(f"  {pair.concept} [{pair.language}]: {pair.name} (CLDR: {', '.join(sorted(pair.spoken)[:3])})")


def test_enough_is_checked(pairs: dict[str, list[Pair]], vocabulary: list[dict[str, object]]) -> None:
    checked = len(pairs["named"]) + len(pairs["keyword"])
    possible = len(vocabulary) * len(languages_of(vocabulary))
    print(f"\nchecked {checked} of {possible} pairs of concept and language ({checked / possible:.3f})")
    assert len(pairs["named"]) / possible >= 0.30
    assert checked / possible >= 0.55


def test_names_agree_where_an_emoji_has_the_same_name(pairs: dict[str, list[Pair]]) -> None:
    print(f"\nnamed alike: {share(pairs['named']):.3f} of {len(pairs['named'])} pairs agree; the others:")
    report(pairs["named"])
    assert share(pairs["named"]) >= NAMED_AT_LEAST


def test_names_agree_where_an_emoji_has_the_keyword(pairs: dict[str, list[Pair]]) -> None:
    print(f"\nby keyword: {share(pairs['keyword']):.3f} of {len(pairs['keyword'])} pairs agree; the others:")
    report(pairs["keyword"])
    assert share(pairs["keyword"]) >= KEYWORD_AT_LEAST
    both = pairs["named"] + pairs["keyword"]
    print(f"together: {share(both):.3f} of {len(both)} pairs agree")
    assert share(both) >= TOGETHER_AT_LEAST


def test_every_language_agrees_mostly(pairs: dict[str, list[Pair]]) -> None:
    by_language: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs["named"]:
        by_language[pair.language].append(pair)
    shares = {language: share(members) for language, members in by_language.items()}
    print("\n" + ", ".join(f"{language} {value:.2f}" for language, value in sorted(shares.items())))
    assert len(shares) == 22
    assert min(shares.values()) >= 0.75


def test_a_wrong_name_would_not_agree(pairs: dict[str, list[Pair]]) -> None:
    """The comparison is not so lenient that another concept's name passes for this one's."""
    named = pairs["named"]
    shifted = [
        Pair(one.concept, one.language, other.name, one.spoken, one.all)
        for one, other in itertools.pairwise(named)
        if one.language == other.language
    ]
    assert share(shifted) <= 0.10
