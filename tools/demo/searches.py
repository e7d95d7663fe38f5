"""The seven searches of the guide's Rank page, over a photo set, and what must be true of their answers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from tools.demo.client import Concept, Hit, Rank
from tools.demo.photos import Photo, PhotoSet

SAME_SCORE = 1e-5
SAME_IMAGE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSearch:
    """One search: what it is called, its query in words or as a photo, and its ranks.

    ``parts`` names the ranks of a search with several, so that a hit can be explained; ``labelled`` are the inputs that
    people gave the concept; ``same_as`` is a search that must answer the same.
    """

    file: str
    title: str
    words: str
    note: str
    ranks: tuple[Rank, ...]
    parts: tuple[str, ...] = ()
    labelled: frozenset[str] = frozenset()
    label_first: bool = False
    photo: Photo | None = None
    plain_words: str = ""
    same_as: tuple[Rank, ...] = ()


def seven_searches(photos: PhotoSet, url: str) -> tuple[DemoSearch, ...]:
    """The searches, in the guide's order. ``url`` is where the photo ``photos.by_url`` is served."""
    word, custom, wanted = photos.word, photos.custom, photos.wanted
    image = photos.by_bytes.load()
    return (
        DemoSearch(
            file="1-people",
            title="By a concept the model predicts",
            words="people",
            note="The base workflow looked at every photo when it was added. Nobody labelled anything.",
            ranks=(Rank(concept=Concept(id="people")),),
        ),
        DemoSearch(
            file="2-custom-concept",
            title="By a concept of your own",
            words=custom,
            note=f"{_photos(len(photos.labelled(custom)))} labelled “{custom}”; the others follow by likeness.",
            ranks=(Rank(concept=Concept(id=custom)),),
            labelled=photos.labelled(custom),
            label_first=True,
        ),
        DemoSearch(
            file="3-with-and-without",
            title="Your concept, without another",
            words=f"{wanted}, but no dog",
            note=f"Two ranks: “{wanted}” with value 1 (your label), “dog” with value 0 (a prediction).",
            ranks=(Rank(concept=Concept(id=wanted)), Rank(concept=Concept(id="dog", value=0.0))),
            parts=(wanted, "no dog"),
            labelled=photos.labelled(wanted),
            # Of a concept that the model knows too, a surely predicted one with less of a dog may come first.
            label_first=photos.known and wanted == custom,
        ),
        DemoSearch(
            file="4-another-language",
            title="By a concept in another language",
            words=word.name,
            plain_words=word.spelled,
            note=f"“{word.english}” in {word.language_name}. The app itself is in English.",
            ranks=(Rank(concept=Concept(name=word.name, language=word.language)),),
            same_as=(Rank(concept=Concept(name=word.english)),),
        ),
        DemoSearch(
            file="5-image-url",
            title="By the URL of an image",
            words="photos that look like this",
            note="The server fetched the image from its address and compared it with every photo.",
            ranks=(Rank(url=url),),
            photo=photos.by_url,
        ),
        DemoSearch(
            file="6-image-bytes",
            title="By the bytes of an image",
            words="photos that look like this",
            note="The image travelled inside the request.",
            ranks=(Rank(image=image),),
            photo=photos.by_bytes,
        ),
        DemoSearch(
            file="7-input-id",
            title="By an input that is already there",
            words="photos that look like this",
            note=f"Only the id travelled: {photos.by_id.id}",
            ranks=(Rank(input_id=photos.by_id.id),),
            photo=photos.by_id,
        ),
    )


def faults(search: DemoSearch, hits: Sequence[Hit], rest: Sequence[Hit], same_as: Sequence[Hit]) -> list[str]:
    """What is wrong with the answers to one search; empty when all is well."""
    if not hits:
        return ["no hits"]
    found = []
    if difference(hits, rest):
        found.append(f"gRPC and REST disagree: {difference(hits, rest)}")
    if any(later.score > earlier.score + SAME_SCORE for earlier, later in itertools.pairwise(hits)):
        found.append("the scores do not fall")
    if search.label_first and hits[0].input_id not in search.labelled:
        found.append(f"{hits[0].input_id} is first, which is not among the labelled ones")
    if search.photo is not None:
        score = next((hit.score for hit in hits if hit.input_id == search.photo.id), None)
        if score is None or score < SAME_IMAGE or hits[0].score > score + SAME_SCORE:
            found.append(f"the query's own photo {search.photo.id} is not first with at least {SAME_IMAGE} ({score})")
    if search.same_as and difference(hits, same_as):
        found.append(f"not the answer to the English word: {difference(hits, same_as)}")
    return found


def difference(one: Sequence[Hit], other: Sequence[Hit]) -> str:
    """The first place where two answers differ, or nothing."""
    if len(one) != len(other):
        return f"{len(one)} hits against {len(other)}"
    for place, (left, right) in enumerate(zip(one, other, strict=True), start=1):
        if left.input_id != right.input_id or abs(left.score - right.score) > SAME_SCORE:
            return f"hit {place} is {left.input_id} {left.score:.6f} against {right.input_id} {right.score:.6f}"
    return ""


def reason(search: DemoSearch, hit: Hit, parts: Sequence[dict[str, float]]) -> str:
    """Why a hit has its score, in a few words."""
    if search.photo is not None:
        if hit.input_id == search.photo.id:
            return "the query itself"
        return f"cosine {2 * hit.score - 1:+.2f}"
    if search.parts:
        named = zip(search.parts, parts, strict=True)
        text = ", ".join(f"{name} {scores[hit.input_id]:.2f}" for name, scores in named if hit.input_id in scores)
        return f"{text} (labelled)" if hit.input_id in search.labelled else text
    if hit.input_id in search.labelled:
        return "labelled by you"
    return "like the labelled ones" if search.labelled else "predicted"


def _photos(count: int) -> str:
    return "One photo was" if count == 1 else f"{count} photos were"
