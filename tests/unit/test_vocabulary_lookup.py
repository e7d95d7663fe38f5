"""Looking concepts up in the vocabulary: by name, by pattern, in any language, and upwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sightrank.vision.vocabulary import LANGUAGES, Term, Vocabulary, fold, matches


def term(id: str, name: str, *hypernyms: str, **names: str) -> Term:
    return Term(id, {"en": name} | names, hypernyms, "")


@pytest.fixture
def vocabulary() -> Vocabulary:
    return Vocabulary(
        [
            term("1", "animal", ja="動物"),
            term("2", "dog", "3", "4", ja="犬", de="Hund"),
            term("3", "mammal", "1"),
            term("4", "pet", "1"),
            term("5", "Hund"),
            term("6", "people", ja="人", zh="人"),
            term("7", "crowd", "6", zh="人群"),
            term("8", "dogfish"),
            term("9", "a", "10"),
            term("10", "b", "9"),
        ]
    )


def ids(terms: list[Term]) -> list[str]:
    return [term.id for term in terms]


def test_there_are_23_languages() -> None:
    assert len(set(LANGUAGES)) == len(LANGUAGES) == 23


def test_names_fold_case_width_and_space() -> None:
    assert fold("  Straße\tDOG ") == "strasse dog"
    assert fold("ＤＯＧ") == fold("dog")
    assert fold("ｲﾇ") == fold("イヌ")
    assert fold("e\u0301") == fold("é")


def test_a_name_is_found_in_its_language_whatever_the_case(vocabulary: Vocabulary) -> None:
    assert vocabulary.by_name("DOG") == ("2",)
    assert vocabulary.by_name("犬", "ja") == ("2",)
    assert vocabulary.by_name("hund", "de") == ("2",)
    assert vocabulary.by_name("hund") == ("5",)
    assert vocabulary.by_name("犬") == ()
    assert vocabulary.by_name("") == ()


def test_english_stands_in_for_a_missing_translation(vocabulary: Vocabulary) -> None:
    assert vocabulary.by_name("dog", "ja") == ("2",)
    assert vocabulary.by_name("dog", "xx") == ("2",)
    assert vocabulary.translated("dog", "ja") == vocabulary.translated("mammal", "ja") == ()
    assert vocabulary.translated("犬", "ja") == ("2",)
    assert vocabulary.name("2", "ja") == "犬"
    assert vocabulary.name("3", "ja") == "mammal"
    assert vocabulary.name("2", "xx") == "dog"
    assert vocabulary.name("unknown", "ja") == "unknown"


def test_a_query_is_a_prefix_with_exact_names_first(vocabulary: Vocabulary) -> None:
    assert ids(vocabulary.search("Dog")) == ["2", "8"]
    assert ids(vocabulary.search("人", "zh")) == ["6", "7"]
    assert ids(vocabulary.search("nothing")) == []
    assert len(vocabulary.search("")) == len(vocabulary) == 10


def test_a_part_of_it_knows_nothing_else(vocabulary: Vocabulary) -> None:
    part = vocabulary.among(["8", "2", "unknown"])

    assert ids(part) == ["2", "8"]
    assert part.by_name("dog", "ja") == ("2",)
    assert part.get("3") is None


def test_a_star_stands_for_any_text(vocabulary: Vocabulary) -> None:
    assert ids(vocabulary.search("*a*l")) == ["1", "3"]
    assert ids(vocabulary.search("dog*")) == ["2", "8"]
    assert ids(vocabulary.search("*fish")) == ["8"]
    assert ids(vocabulary.search("d*g")) == ["2"]
    assert len(vocabulary.search("*")) == 10


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("a", "a", True),
        ("a", "ab", False),
        ("*", "", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a**b", "ab", True),
        ("*b*b*", "abba", True),
        ("*b*b*", "aba", False),
        (".*", "abc", False),
    ],
)
def test_patterns(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name) is expected


def test_a_hostile_pattern_costs_nothing() -> None:
    assert not matches("a*" * 40 + "b", "a" * 5000)  # backtracking would never end


def test_hypernyms_close_upwards_nearest_first_and_cycles_end(vocabulary: Vocabulary) -> None:
    assert vocabulary.hypernyms("2") == ("3", "4")
    assert vocabulary.ancestors("2") == ("3", "4", "1")
    assert vocabulary.ancestors("1") == ()
    assert vocabulary.ancestors("9") == ("10",)
    assert vocabulary.ancestors("unknown") == ()


def test_a_vocabulary_is_read_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.json"
    entry = {"id": "1", "name": "dog", "names": {"ja": "犬", "de": ""}, "hypernyms": ["2"], "definition": "A pet."}
    path.write_text(json.dumps([entry]), encoding="utf-8")
    found = Vocabulary.load(path).get("1")
    assert found is not None
    assert (found.name, found.name_in("ja"), found.name_in("de")) == ("dog", ("犬", "ja"), ("dog", "en"))
    assert (found.hypernyms, found.definition) == (("2",), "A pet.")


@pytest.mark.parametrize("text", ["", "{}x", '[{"id": "1"}]', "[1]", '[{"id":"1","name":"a"},{"id":"1","name":"b"}]'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocabulary\.json"):
        Vocabulary.load(path)


def test_the_empty_vocabulary_knows_nothing() -> None:
    empty = Vocabulary.empty()
    assert (len(empty), empty.search("*"), empty.by_name("dog"), "1" in empty) == (0, [], (), False)
