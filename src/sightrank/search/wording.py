"""Which concepts a text names, for apps whose vectors no text can be compared with. No I/O.

Longest phrases first: an own or public name, a name in any other language, a word whose more general concept is known,
another form of a word; then, for single words that are left, the nearest in meaning of a common one, and what any other
may be a typing mistake of.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from sightrank.vision.vocabulary import ENGLISH, LANGUAGES, Vocabulary, fold
from sightrank.vision.words import WordVectors

MOST_CHARACTERS = 300
_LONGEST_PHRASE = 4  # words of a name
_LONGEST_RUN = 10  # characters of a name in a script without spaces
#: Lowest cosine at which the nearest name is believed; measured on the words of tests/unit/test_search_wording.py.
LEAST_COSINE = 0.6
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_NEGATIONS = frozenset({"no", "not", "without"})
_STOP_WORDS = frozenset(
    """a an and any are at by for from her his in is it its my near of on one or our over photo photos picture pictures
    some that the their there this to two under with image images das dem den der die ein eine einem einen im am mit und
    auf von le la les un une des du et avec sur dans el los las una y con en lo il gli di o do da um uma com e na
    の と は""".split()  # noqa: SIM905 - a list would fill a page
)


class How(Enum):
    """By which way a phrase was understood, in the words of the note about it."""

    NAME = ""
    TRANSLATION = "a name in another language"
    MORE_GENERAL = "more general"
    FORM = "another form of the word"
    SPELLING = "taken for a typing mistake"
    MEANING = "nearest in meaning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sense:
    """A phrase of a text and the concept it names. ``concept_id`` is '' for one that is found by this very name."""

    phrase: str
    how: How
    name: str
    concept_id: str = ""
    wanted: bool = True

    def describe(self) -> str:
        """``"poodle" as dog (more general)``"""
        reason = f" ({self.how.value})" if self.how.value else ""
        return f'"{self.phrase}" as {"" if self.wanted else "not "}{self.name}{reason}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a text names, and its words that nothing explains."""

    senses: tuple[Sense, ...]
    ignored: tuple[str, ...]


class Wording:
    """The names of a vocabulary, and words below them (``words``: word to concept id)."""

    def __init__(self, vocabulary: Vocabulary, words: Mapping[str, str]) -> None:
        self._vocabulary = vocabulary
        self._words = words
        self._translated: dict[str, str] = {}
        for language in (*(language for language in LANGUAGES if language != ENGLISH), ENGLISH):
            for term in vocabulary:
                if language in term.names:
                    self._translated[fold(term.names[language])] = term.id
        self._english = {fold(term.name): term.id for term in vocabulary}

    def read(self, text: str, known: Callable[[str], bool], vectors: WordVectors) -> Reading:
        """``known``: whether a phrase is a name in the app; ``vectors`` are those of the vocabulary's English names."""
        pieces = _pieces(text)
        senses: list[Sense] = []
        left: list[str] = []
        position = 0
        wanted = True
        while position < len(pieces):
            sense, length = self._longest(pieces, position, known)
            word = pieces[position].folded
            if sense is None and word in _NEGATIONS:
                wanted = False
            elif sense is None and word not in _STOP_WORDS:
                sense = self._guess(word, vectors)
                if sense is None:
                    left.append(pieces[position].text)
            if sense is not None:
                senses.append(sense if wanted else _unwanted(sense))
                wanted = True
            position += length
        return Reading(senses=_distinct(senses), ignored=tuple(left))

    def _longest(
        self, pieces: Sequence[_Piece], position: int, known: Callable[[str], bool]
    ) -> tuple[Sense | None, int]:
        for length in range(min(_longest_at(pieces, position), len(pieces) - position), 0, -1):
            part = pieces[position : position + length]
            phrase = _joined(part)
            # "on" and "am" are words of the sentence before they are names in some language.
            if length == 1 and part[0].folded in _STOP_WORDS and not known(phrase):
                continue
            sense = self._sense(phrase, known)
            if sense is not None:
                return sense, length
        return None, 1

    def _sense(self, phrase: str, known: Callable[[str], bool]) -> Sense | None:
        if known(phrase):
            return Sense(phrase=phrase, how=How.NAME, name=phrase)
        folded = fold(phrase)
        if folded in self._english:
            return self._public(phrase, How.NAME, self._english[folded])
        if folded in self._translated:
            return self._public(phrase, How.TRANSLATION, self._translated[folded])
        if folded in self._words:
            return self._public(phrase, How.MORE_GENERAL, self._words[folded])
        for form in _forms(folded):
            if known(form):
                return Sense(phrase=phrase, how=How.FORM, name=form)
            if form in self._english:
                return self._public(phrase, How.FORM, self._english[form])
            if form in self._words:
                return self._public(phrase, How.MORE_GENERAL, self._words[form])
        return None

    def _guess(self, word: str, vectors: WordVectors) -> Sense | None:
        """The nearest in meaning of a common word; of any other, what it is a typing mistake of."""
        if not vectors.is_common(word):
            # It has no vector of its own, and the vectors of its pieces ("cat" of "catxyz") say nothing.
            spelled = self._spelled(word)
            return self._public(word, How.SPELLING, spelled) if spelled is not None else None
        found = vectors.nearest(word)
        if found is None or found.cosine < LEAST_COSINE:
            return None
        return self._public(word, How.MEANING, self._english[fold(found.name)])

    def _spelled(self, word: str) -> str | None:
        """The concept of the one English name, or else of the one word, that is a typing mistake away."""
        most = 0 if len(word) < 5 else 1 if len(word) < 9 else 2
        for names in (self._english, self._words):
            near = {id for name, id in names.items() if most and _is_near(word, name, most)}
            if len(near) == 1:
                return near.pop()
        return None

    def suggestions(self, word: str, count: int = 3) -> list[str]:
        """Names that begin like a word, for whoever found nothing."""
        start = word[:3]
        return sorted(name for name in self._english if len(start) == 3 and name.startswith(start))[:count]

    def _public(self, phrase: str, how: How, concept_id: str) -> Sense:
        return Sense(phrase=phrase, how=how, name=self._vocabulary.name(concept_id), concept_id=concept_id)


def phrases(text: str) -> set[str]:
    """Every phrase that ``Wording.read`` may ask for as a name, in the forms it asks in."""
    pieces = _pieces(text)
    found: set[str] = set()
    for position in range(len(pieces)):
        for length in range(1, min(_longest_at(pieces, position), len(pieces) - position) + 1):
            phrase = _joined(pieces[position : position + length])
            found |= {phrase, *_forms(fold(phrase))}
    return found


@dataclass(frozen=True, slots=True)
class _Piece:
    """A word, or one character of a script without spaces; ``gap``: whether a space is before it."""

    text: str
    gap: bool

    @property
    def folded(self) -> str:
        return fold(self.text)


def _pieces(text: str) -> list[_Piece]:
    pieces: list[_Piece] = []
    for word in _WORD.findall(text):
        run = _UNSPACED.fullmatch(word)
        parts = list(word) if run else [word]
        pieces += [_Piece(part, gap=place == 0) for place, part in enumerate(parts)]
    return pieces


def _longest_at(pieces: Sequence[_Piece], position: int) -> int:
    return _LONGEST_RUN if _UNSPACED.fullmatch(pieces[position].text) else _LONGEST_PHRASE


def _joined(pieces: Sequence[_Piece]) -> str:
    return "".join(f" {piece.text}" if piece.gap else piece.text for piece in pieces).strip()


def _forms(folded: str) -> Iterator[str]:
    """What an English word may be a form of: a plural, mostly."""
    if folded.endswith("ies") and len(folded) > 4:
        yield f"{folded[:-3]}y"
    if folded.endswith("ves") and len(folded) > 4:
        yield f"{folded[:-3]}f"
        yield f"{folded[:-3]}fe"
    if folded.endswith("es") and len(folded) > 4:
        yield folded[:-2]
    if folded.endswith("s") and len(folded) > 3 and not folded.endswith("ss"):
        yield folded[:-1]
    if folded.endswith(("'s", "’s")):
        yield folded[:-2]
    if len(folded) > 2:
        yield f"{folded}s"


def _is_near(word: str, name: str, most: int) -> bool:
    """Whether at most ``most`` letters were missed, added, changed or swapped with their neighbour."""
    if abs(len(word) - len(name)) > most or len(name) < 4:
        return False
    before: list[int] = []
    last = list(range(len(name) + 1))
    for i, letter in enumerate(word, 1):
        row = [i]
        for j, other in enumerate(name, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (letter != other))
            if before and j > 1 and letter == name[j - 2] and word[i - 2] == other:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1] <= most


def _unwanted(sense: Sense) -> Sense:
    return Sense(phrase=sense.phrase, how=sense.how, name=sense.name, concept_id=sense.concept_id, wanted=False)


def _distinct(senses: Sequence[Sense]) -> tuple[Sense, ...]:
    """Each concept once, as it was first named."""
    found: dict[str, Sense] = {}
    for sense in senses:
        found.setdefault(sense.concept_id or fold(sense.name), sense)
    return tuple(found.values())
