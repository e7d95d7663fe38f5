"""Random apps, as plain records. ``writing`` puts them into a database."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import numpy as np
from tests.oracle.contents import INFOS, TASKS, random_data
from tests.oracle.records import Annotation, App, Area, Input, Names, Vector, Version

from sightrank.vision.vocabulary import Term, Vocabulary

DIMS = 6

#: The public vocabulary: id to names. "palm" means two concepts, "sea" is public and an app's own.
PUBLIC: Mapping[str, Names] = {
    "ai_dog": {"en": "dog", "ja": "犬", "de": "Hund"},
    "ai_cat": {"en": "cat", "ja": "猫", "de": "Katze"},
    "ai_palm": {"en": "palm", "de": "Palme"},
    "ai_hand": {"en": "palm", "de": "Hand"},
    "ai_sea": {"en": "sea", "de": "Meer"},
    "ai_gift": {"en": "gift", "de": "Geschenk"},
}
#: Concepts of the app itself: id to its name in the app's language and in others.
OWN: Mapping[str, tuple[str, Names]] = {
    "sea": ("Sea", {}),
    "my-dog": ("Rex", {"de": "Hund"}),
    "poison": ("poison", {"de": "Gift"}),
    "ai_cat": ("cat", {}),
    "unseen": ("nobody has it", {}),
    "dog-too": ("dog", {}),
}
#: What the tagger predicts; "ai_gift" has a row so steep that probabilities run into 0 and 1.
TAGGED = ("ai_dog", "ai_cat", "ai_palm", "ai_hand", "ai_gift")
#: What the detector finds: a concept that the tagger knows too, and one that it does not.
DETECTED = ("ai_dog", "ai_sea")
USERS = ("ann", "bob", "me too")
DATASETS = ("first", "second", "empty")
MODEL = "general"
MODEL_VERSIONS = ("v1", "v2")
ANNOTATION_STATUSES = (24150, 24150, 24151, 24153)
URLS = ("", "http://pictures.test/1.jpg", "http://pictures.test/1.JPG", "http://pictures.test/a\\b'%.jpg")
#: Some ids of annotations are chosen by clients, who use them again for other inputs.
CHOSEN_IDS = ("note1", "note2")

_SAID = sorted({*PUBLIC, *OWN} - {"unseen"})


def vocabulary() -> Vocabulary:
    return Vocabulary([Term(concept_id, names, (), "") for concept_id, names in PUBLIC.items()])


def random_unit(random: np.random.Generator, dims: int = DIMS) -> Vector:
    vector = random.normal(size=dims)
    return np.asarray(vector / np.linalg.norm(vector))


def random_app(*, seed: int, inputs: int, regions: int) -> App:
    """An app of ``inputs`` inputs with up to ``regions`` regions each, or as many frames where they are videos. Ids of
    inputs and areas are given by writing.
    """
    maker = _Maker(seed, regions)
    language = "de" if seed % 3 == 2 else "en"
    return App(
        bucket=0,
        language=language,
        dims=DIMS,
        inputs=[maker.input() for _ in range(inputs)],
        # The app's own language may be the one of a translation; then that is its name.
        own={own: (name, {k: v for k, v in others.items() if k != language}) for own, (name, others) in OWN.items()},
        public=PUBLIC,
        user_id="ann",
    )


class _Maker:
    def __init__(self, seed: int, regions: int) -> None:
        self._random = Random(seed)
        self._vectors = np.random.default_rng(seed)
        self._regions = regions
        self._now_us = 1_700_000_000_000_000 + self._random.randrange(10**9)
        self._pool = [random_unit(self._vectors) for _ in range(5)]

    def input(self) -> Input:
        random = self._random
        item = Input(
            id=f"in{random.randbytes(4).hex()}",
            number=0,
            created_us=self._tick(1),
            status=random.choice((30000, 30000, 30000, 30000, 30001, 30002)),
            media=random.choice(("image", "image", "image", "text", "video")),
            url=random.choice(URLS),
            datasets=tuple(dataset for dataset in DATASETS[:-1] if random.random() < 0.4),
        )
        item.areas = [Area(id=0, created_us=item.created_us)]
        for place in range(random.randint(0, self._regions)):
            item.areas.append(self._frame(place) if item.media == "video" else self._region())
        often = 0.0 if item.media == "video" else 0.1
        gone = [self._region(is_gone=True) for _ in range(self._regions) if random.random() < often]
        item.annotations = [self._annotation(item, item.areas[0], input_level=True)]
        for area in (*item.areas, *gone):
            for _ in range(1 if area.is_gone else random.choice((0, 0, 1, 1, 2))):
                item.annotations.append(self._annotation(item, area))
        if item.status == 30000 and item.media != "text":
            for area in item.areas:
                area.vector = self._vector()
        return item

    def _tick(self, least: int = 0) -> int:
        """The next moment; annotations and regions may be of the same microsecond, inputs never are."""
        self._now_us += least + self._random.choice((0, 1, 1, 2, 5))
        return self._now_us

    def _region(self, *, is_gone: bool = False) -> Area:
        has_box = self._random.random() < 0.6
        return Area(id=0, created_us=self._tick(), is_region=True, has_box=has_box, is_gone=is_gone)

    def _frame(self, index: int) -> Area:
        return Area(id=0, created_us=self._tick(), frame=index)

    def _annotation(self, item: Input, area: Area, *, input_level: bool = False) -> Annotation:
        random = self._random
        created = area.created_us if input_level else self._tick()
        by_model = not input_level and not area.is_gone and random.random() < 0.25
        free = [name for name in CHOSEN_IDS if name not in {other.id for other in item.annotations}]
        annotation = Annotation(
            id=random.choice(free) if free and random.random() < 0.3 else random.randbytes(8).hex(),
            created_us=created,
            input_level=input_level,
            user_id="" if by_model else random.choice(USERS),
            task_id="" if by_model else random.choice(TASKS),
            model_id=MODEL if by_model else "",
            model_version_id=random.choice(MODEL_VERSIONS) if by_model else "",
        )
        annotation.own_model = by_model and created % 4 == 0
        annotation.versions = [self._version(area, created, by_model)]
        if not by_model:
            self._rewrite(item, annotation)
        return annotation

    def _rewrite(self, item: Input, annotation: Annotation) -> None:
        """What happened to it since: patches, a deletion, or a patch from before there was a history."""
        random, versions = self._random, annotation.versions
        first = versions[0].area
        for _ in range(random.choice((0, 0, 0, 1, 1, 2, 3))):
            at_us = versions[-1].modified_us + random.choice((1, 4, 300, 300, 10**9))
            versions[-1].until_us = at_us
            # Whoever speaks of a region that is gone may have been moved away from it.
            still = first if not first.is_gone or random.random() < 0.7 else item.areas[-1]
            versions.append(self._version(still, at_us, False))
        if versions[-1].area.is_gone or (not annotation.input_level and random.random() < 0.1):
            versions[-1].until_us = versions[-1].modified_us + random.choice((1, 300, 10**9))
        elif random.random() < 0.15:
            del versions[:-1]

    def _version(self, area: Area, modified_us: int, by_model: bool) -> Version:
        random = self._random
        # What a model says of a frame tells which one it is.
        placed = area.frame is not None or (area.is_region and not by_model)
        data = random_data(random, _SAID, part=area if placed else None)
        status = random.choice(ANNOTATION_STATUSES)
        return Version(
            modified_us=modified_us,
            status=status,
            trusted=not by_model and (status == 24150 or random.random() < 0.3),
            area=area,
            data=data,
            info=random.choice(INFOS) if random.random() < 0.3 else None,
        )

    def _vector(self) -> Vector:
        """Often one of a few, now and then its opposite: copies and extremes are where orders go wrong."""
        kind = self._vectors.random()
        chosen = self._pool[int(self._vectors.integers(len(self._pool)))]
        if kind >= 0.35:
            chosen = random_unit(self._vectors)
        elif kind >= 0.3:
            chosen = -chosen
        return chosen.astype(np.float16).astype(np.float64)
