"""Which concepts a text names: by every way there is, and by none."""

from __future__ import annotations

import json

import pytest

from sightrank.search.wording import How, Reading, Wording, phrases
from sightrank.vision.bundle import built_in_bundle, load_bundle
from sightrank.vision.vocabulary import Vocabulary
from sightrank.vision.words import Nearest, WordVectors

_BUNDLE = load_bundle(built_in_bundle())
_VOCABULARY = Vocabulary.load(_BUNDLE.vocabulary)


@pytest.fixture(scope="module")
def wording() -> Wording:
    return Wording(_VOCABULARY, json.loads(_BUNDLE.words.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def vectors() -> WordVectors:
    return WordVectors([term.name for term in _VOCABULARY])


class _Said(WordVectors):
    """Says what it is told to."""

    def __init__(self, name: str, cosine: float) -> None:
        super().__init__([name])
        self._said = Nearest(name=name, cosine=cosine)

    def is_common(self, word: str) -> bool:
        return True

    def nearest(self, word: str) -> Nearest | None:
        return self._said


def read(wording: Wording, vectors: WordVectors, text: str, own: frozenset[str] = frozenset()) -> Reading:
    return wording.read(text, own.__contains__, vectors)


def meant(reading: Reading) -> list[str]:
    return [sense.name if sense.wanted else f"not {sense.name}" for sense in reading.senses]


@pytest.mark.parametrize(
    ("text", "names", "how"),
    [
        ("dog", ["dog"], How.NAME),
        ("  DOG ", ["dog"], How.NAME),
        ("palm tree", ["palm tree"], How.NAME),
        ("No Person", ["no person"], How.NAME),
        ("Hund", ["dog"], How.TRANSLATION),
        ("犬", ["dog"], How.TRANSLATION),
        ("chien", ["dog"], How.TRANSLATION),
        ("собака", ["dog"], How.TRANSLATION),
        ("Strand", ["beach"], How.TRANSLATION),
        ("poodle", ["dog"], How.MORE_GENERAL),
        ("Pembroke Welsh corgi", ["dog"], How.MORE_GENERAL),
        ("beagle", ["dog"], How.MORE_GENERAL),
        ("terriers", ["dog"], How.MORE_GENERAL),
        ("puppy", ["dog"], How.MORE_GENERAL),
        ("puppies", ["dog"], How.MORE_GENERAL),
        ("kitten", ["cat"], How.MORE_GENERAL),
        ("tabby", ["cat"], How.MORE_GENERAL),
        ("sedan", ["car"], How.MORE_GENERAL),
        ("convertible", ["car"], How.MORE_GENERAL),
        ("lorry", ["truck"], How.MORE_GENERAL),
        ("bike", ["bicycle"], How.MORE_GENERAL),
        ("yacht", ["boat"], How.MORE_GENERAL),
        ("aeroplane", ["airplane"], How.MORE_GENERAL),
        ("woods", ["forest"], How.MORE_GENERAL),
        ("ocean", ["sea"], How.MORE_GENERAL),
        ("sunset", ["sky"], How.MORE_GENERAL),
        ("man", ["people"], How.MORE_GENERAL),
        ("child", ["people"], How.MORE_GENERAL),
        ("sushi", ["food"], How.MORE_GENERAL),
        ("espresso", ["coffee"], How.MORE_GENERAL),
        ("guitar", ["musical instrument"], How.MORE_GENERAL),
        ("couch", ["sofa"], How.MORE_GENERAL),
        ("smartphone", ["telephone"], How.MORE_GENERAL),
        ("castle", ["palace"], How.MORE_GENERAL),
        ("dogs", ["dog"], How.FORM),
        ("beaches", ["beach"], How.FORM),
        ("cities", ["city"], How.FORM),
        ("churches", ["church"], How.FORM),
        ("dog's", ["dog"], How.FORM),
        ("moutain", ["mountain"], How.SPELLING),
        ("bicylce", ["bicycle"], How.SPELLING),
        ("elefant", ["elephant"], How.TRANSLATION),
        ("elephnat", ["elephant"], How.SPELLING),
        ("resturant", ["restaurant"], How.SPELLING),
        ("automobiles", ["car"], How.MORE_GENERAL),
        ("woodlands", ["forest"], How.MORE_GENERAL),
    ],
)
def test_a_word_is_understood(wording: Wording, vectors: WordVectors, text: str, names: list[str], how: How) -> None:
    reading = read(wording, vectors, text)

    assert meant(reading) == names
    assert reading.ignored == ()
    assert [sense.how for sense in reading.senses] == [how]


@pytest.mark.parametrize(
    "word",
    [
        "algorithm", "democracy", "tax", "philosophy", "happiness", "yesterday", "quickly", "xyzzy", "blorf", "qwrtz",
        "1234", "quantum", "inflation", "parliament", "mortgage", "hypothesis", "money", "justice", "lightning", "dgo",
    ],
)  # fmt: skip
def test_a_word_that_means_no_concept_is_not_forced_into_one(wording: Wording, vectors: WordVectors, word: str) -> None:
    reading = read(wording, vectors, word)

    assert meant(reading) == []
    assert reading.ignored == (word,)


@pytest.mark.parametrize(
    ("text", "names", "ignored"),
    [
        ("a dog on the beach", ["dog", "beach"], ()),
        ("golden retriever in a living room", ["golden retriever", "living room"], ()),
        ("ein Hund am Strand", ["dog", "beach"], ()),
        ("a beach without people", ["beach", "not people"], ()),
        ("no dog, a cat", ["not dog", "cat"], ()),
        ("a blorf beside the sea", ["sea"], ("blorf", "beside")),
        ("ビーチの犬", ["beach", "dog"], ()),
        ("dog dogs Hund", ["dog"], ()),
        ("", [], ()),
        ("the of and", [], ()),
    ],
)
def test_a_sentence_names_several(
    wording: Wording, vectors: WordVectors, text: str, names: list[str], ignored: tuple[str, ...]
) -> None:
    reading = read(wording, vectors, text)

    assert meant(reading) == names
    assert reading.ignored == ignored


def test_own_names_are_taken_first_and_in_their_longest_form(wording: Wording, vectors: WordVectors) -> None:
    reading = read(wording, vectors, "my red dog house", own=frozenset({"red dog house"}))

    assert meant(reading) == ["red dog house"]
    assert reading.senses[0].concept_id == ""


def test_every_phrase_that_is_asked_for_is_named_before(wording: Wording, vectors: WordVectors) -> None:
    for text in ("Two puppies and a Cat on the beaches", "浜辺の犬", "don't stop-start L’été"):
        asked: set[str] = set()

        def known(phrase: str, asked: set[str] = asked) -> bool:
            asked.add(phrase)
            return False

        wording.read(text, known, vectors)

        assert asked
        assert asked <= phrases(text)


def test_meaning_is_asked_last_and_believed_only_when_near(wording: Wording) -> None:
    near = wording.read("shoreline", lambda phrase: False, _Said("beach", 0.7))
    far = wording.read("shoreline", lambda phrase: False, _Said("beach", 0.5))

    assert [(sense.name, sense.how) for sense in near.senses] == [("beach", How.MEANING)]
    assert far.ignored == ("shoreline",)


def test_words_near_in_meaning_have_near_vectors(vectors: WordVectors) -> None:
    found = vectors.nearest("automobile")

    assert found is not None
    assert found.name == "car"
    assert found.cosine > 0.6
    assert vectors.nearest("") is None
