"""The public vocabulary: well-formed ids, names in every language, a hierarchy without cycles."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

LANGUAGES = ["ar", "bn", "da", "de", "en", "es", "fi", "fr", "hi", "hu", "it", "ja", "ko", "nl", "no", "pa", "pl", "pt"]
LANGUAGES += ["ru", "sv", "tr", "zh", "zh-TW"]
CONSONANTS_AND_DIGITS = "0123456789BCDFGHJKLMNPQRSTVWXZbcdfghjklmnpqrstvwxz"
ID = re.compile(rf"ai_[{CONSONANTS_AND_DIGITS}]{{8}}")
# Ids of clarifai/main that clients and documents are known to use.
KNOWN = {
    "dog": "ai_8S2Vq3cR",
    "people": "ai_l8TKp2h5",
    "cat": "ai_mFqxrph2",
    "water": "ai_BlL0wSQh",
    "train": "ai_HLmqFqBf",
    "railway": "ai_fvlBqXZR",
    "station": "ai_6kTjGfF6",
    "no person": "ai_786Zr311",
    "beach": "ai_J1hw9SFJ",
    "car": "ai_LplXDDZ2",
    "street": "ai_GjVpxXrs",
    "sky": "ai_lNsKfmXb",
    "tree": "ai_TjbmxC6B",
}
REQUIRED = ["mountain", "flower", "food", "animal", "vehicle", "indoors", "outdoors", "forest", "sea", "snow", "fruit"]
REQUIRED += ["vegetable", "clothing", "furniture", "bird", "horse", "boat", "ship", "airplane", "building", "palm tree"]
REQUIRED += ["train station", "no person"]
SCRIPTS = {
    "ar": ("ARABIC",),
    "bn": ("BENGALI",),
    "hi": ("DEVANAGARI",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA"),
    "ko": ("HANGUL",),
    "pa": ("GURMUKHI",),
    "ru": ("CYRILLIC",),
    "zh": ("CJK",),
    "zh-TW": ("CJK",),
}

VOCABULARY: list[dict[str, Any]] = json.loads(
    files("sightrank.general").joinpath("vocabulary.json").read_text(encoding="utf-8")
)
BY_NAME = {concept["name"]: concept for concept in VOCABULARY}
BY_ID = {concept["id"]: concept for concept in VOCABULARY}


def derived_id(name: str) -> str:
    """The first derived id of a concept without a known one (no collision has needed a second)."""
    number = int.from_bytes(hashlib.sha256(f"sightrank:{name}:0".encode()).digest(), "big")
    letters = []
    for _ in range(8):
        number, rest = divmod(number, len(CONSONANTS_AND_DIGITS))
        letters.append(CONSONANTS_AND_DIGITS[rest])
    return "ai_" + "".join(letters)


def test_size_and_fields() -> None:
    assert len(VOCABULARY) >= 150
    for concept in VOCABULARY:
        assert set(concept) == {"id", "name", "names", "hypernyms", "definition"}
        assert concept["definition"] == "" or concept["definition"].endswith(".")


def test_ids_are_well_formed_and_unique() -> None:
    assert len(BY_ID) == len(VOCABULARY)
    assert [concept["id"] for concept in VOCABULARY if not ID.fullmatch(concept["id"])] == []


def test_english_names_are_unique_and_consistent() -> None:
    assert len(BY_NAME) == len(VOCABULARY)
    for concept in VOCABULARY:
        assert concept["names"]["en"] == concept["name"]
        assert concept["name"] == concept["name"].lower() or concept["name"] == "Christmas"


@pytest.mark.parametrize(("name", "concept_id"), sorted(KNOWN.items()))
def test_known_concepts_keep_their_known_ids(name: str, concept_id: str) -> None:
    assert BY_NAME[name]["id"] == concept_id


@pytest.mark.parametrize("name", REQUIRED)
def test_required_concepts_are_present(name: str) -> None:
    assert name in BY_NAME


@pytest.mark.parametrize("name", ["palm tree", "flower", "airplane", "clothing"])
def test_other_ids_derive_from_the_english_name(name: str) -> None:
    assert BY_NAME[name]["id"] == derived_id(name)


def test_all_languages_are_there_and_clean() -> None:
    for concept in VOCABULARY:
        assert list(concept["names"]) == LANGUAGES, concept["name"]
        for language, name in concept["names"].items():
            assert name, (concept["name"], language)
            assert name == unicodedata.normalize("NFC", name).strip(), (name, language)
            assert not re.search(r"[|/;()\t\n]", name), (name, language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_are_nearly_unique_in_each_language(language: str) -> None:
    names = [concept["names"][language].casefold() for concept in VOCABULARY]
    assert len(names) - len(set(names)) <= 2


@pytest.mark.parametrize("language", sorted(SCRIPTS))
def test_names_use_the_script_of_their_language(language: str) -> None:
    for concept in VOCABULARY:
        name = concept["names"][language]
        assert any(unicodedata.name(letter, "").startswith(SCRIPTS[language]) for letter in name), (name, language)


def test_german_nouns_are_capitalised() -> None:
    exempt = {"no person", "outdoors"}  # phrases: "keine Person", "im Freien"
    lower = [c["names"]["de"] for c in VOCABULARY if c["names"]["de"][0].islower() and c["name"] not in exempt]
    assert lower == []


@pytest.mark.parametrize(
    ("name", "language", "expected"),
    [
        ("dog", "ja", "犬"),
        ("dog", "fr", "chien"),
        ("cat", "ja", "猫"),
        ("people", "zh", "人"),
        ("people", "zh-TW", "人"),
        ("train", "ru", "поезд"),
        ("dog", "de", "Hund"),
    ],
)
def test_translations_that_clients_rely_on(name: str, language: str, expected: str) -> None:
    assert BY_NAME[name]["names"][language] == expected


def test_hypernyms_exist_and_have_no_cycle() -> None:
    for concept in VOCABULARY:
        seen: set[str] = set()
        level = set(concept["hypernyms"])
        assert level <= set(BY_ID), concept["name"]
        while level:
            seen |= level
            level = {above for below in level for above in BY_ID[below]["hypernyms"]} - seen
        assert concept["id"] not in seen, concept["name"]


def test_hypernyms_say_what_a_thing_is() -> None:
    dog = {BY_ID[above]["name"] for above in BY_NAME["dog"]["hypernyms"]}
    assert {"mammal", "pet"} <= dog
    assert [BY_ID[above]["name"] for above in BY_NAME["palm tree"]["hypernyms"]] == ["tree"]


def test_the_label_map_names_only_concepts_of_the_vocabulary() -> None:
    path = Path(__file__).parents[2] / "training" / "label_map.json"
    label_map = json.loads(path.read_text(encoding="utf-8"))
    for source in label_map["sources"].values():
        for meaning in source["labels"].values():
            assert set(meaning["yes"]) | set(meaning["maybe"]) <= set(BY_NAME)
            assert not set(meaning["yes"]) & set(meaning["maybe"])
    for teacher in label_map["teachers"].values():
        assert {name for names in teacher.values() for name in names} <= set(BY_NAME)
    for concepts in label_map["photos"].values():
        assert set(concepts) <= set(BY_NAME)
        for judged in concepts.values():
            assert not set(judged["yes"]) & set(judged["no"])


def test_the_label_map_is_closed_under_hypernyms() -> None:
    path = Path(__file__).parents[2] / "training" / "label_map.json"
    for source in json.loads(path.read_text(encoding="utf-8"))["sources"].values():
        for label, meaning in source["labels"].items():
            above = {BY_ID[one]["name"] for name in meaning["yes"] for one in BY_NAME[name]["hypernyms"]}
            assert above <= set(meaning["yes"]), label
