"""Concepts of an app and public ones (api-spec 3.4, 3.5, 4.4)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from tests.integration.worlds import PAT, World, Worlds

from sightrank.errors import AppError, ConceptsInvalid, DoesNotExist, InvalidRequest, WorkflowDoesNotExist
from sightrank.search.concepts import Meaning
from sightrank.search.query import ConceptName

MAIN = resources_pb2.UserAppIDSet(user_id="clarifai", app_id="main")
MINE = resources_pb2.UserAppIDSet(user_id="me", app_id="photos")


async def post(world: World, *concepts: tuple[str, str]) -> list[resources_pb2.Concept]:
    request = service_pb2.PostConceptsRequest(
        user_app_id=MINE, concepts=[resources_pb2.Concept(id=id, name=name) for id, name in concepts]
    )
    return list((await world.call("PostConcepts", request)).concepts)


async def get(world: World, concept_id: str, app: resources_pb2.UserAppIDSet = MINE) -> resources_pb2.Concept:
    request = service_pb2.GetConceptRequest(user_app_id=app, concept_id=concept_id)
    return (await world.call("GetConcept", request)).concept


async def listed(world: World, app: resources_pb2.UserAppIDSet = MINE, **fields: Any) -> list[str]:
    request = service_pb2.ListConceptsRequest(user_app_id=app, **fields)
    return [concept.id for concept in (await world.call("ListConcepts", request)).concepts]


async def rename(world: World, *concepts: tuple[str, str], action: str = "overwrite") -> list[str]:
    request = service_pb2.PatchConceptsRequest(
        user_app_id=MINE,
        action=action,
        concepts=[resources_pb2.Concept(id=id, name=name) for id, name in concepts],
    )
    return [concept.name for concept in (await world.call("PatchConcepts", request)).concepts]


async def translate(world: World, concept_id: str, rpc: str = "PostConceptLanguages", **names: str) -> None:
    entries = [resources_pb2.ConceptLanguage(id=language, name=name) for language, name in names.items()]
    if rpc == "PostConceptLanguages":
        request: Any = service_pb2.PostConceptLanguagesRequest(
            user_app_id=MINE, concept_id=concept_id, concept_languages=entries
        )
    else:
        request = service_pb2.PatchConceptLanguagesRequest(
            user_app_id=MINE, concept_id=concept_id, concept_languages=entries, action="overwrite"
        )
    await world.call(rpc, request)


async def languages(world: World, concept_id: str, app: resources_pb2.UserAppIDSet = MINE) -> dict[str, str]:
    request = service_pb2.ListConceptLanguagesRequest(user_app_id=app, concept_id=concept_id)
    entries = (await world.call("ListConceptLanguages", request)).concept_languages
    return {entry.id: entry.name for entry in entries}


async def bucket(world: World) -> int:
    app = await world.identity.app("admin", "photos")
    assert app is not None
    return app.bucket


async def ensure(world: World, *pairs: tuple[str, str]) -> list[str]:
    number = await bucket(world)
    async with world.database.transaction() as connection:
        return await world.book.ensure_concepts(connection, number, pairs)


def test_a_concept_is_called_by_its_id_unless_it_has_a_name(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        made = await post(world, ("some-new-concept", ""), ("x", "犬 と 猫"), ("", "by name only"))
        assert [(concept.id, concept.name) for concept in made] == [
            ("some-new-concept", "some-new-concept"),
            ("x", "犬 と 猫"),
            ("by name only", "by name only"),
        ]
        found = await get(world, "x")
        assert found == made[1]
        assert (found.language, found.app_id, found.user_id, found.value) == ("en", "photos", "admin", 1.0)
        assert await listed(world) == ["some-new-concept", "x", "by name only"]

    world.run(scenario)


def test_an_id_is_taken_once(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await post(world, ("a", ""))
        for concepts in ([("b", ""), ("a", "other")], [("c", ""), ("c", "")], [("", "a")]):
            with pytest.raises(ConceptsInvalid) as caught:
                await post(world, *concepts)
            assert (caught.value.code, caught.value.description) == (40003, "Invalid request")
            assert "duplicate" in caught.value.details.lower()
        assert await listed(world) == ["a"]
        results = await asyncio.gather(*(post(world, ("same", "")) for _ in range(6)), return_exceptions=True)
        assert sum(isinstance(result, ConceptsInvalid) for result in results) == 5

    world.run(scenario)


@pytest.mark.parametrize(
    ("concept", "text"),
    [
        (("", ""), "neither id nor name"),
        (("  ", " "), "neither id nor name"),
        (("a\0", ""), "NUL"),
        (("a" * 129, ""), "too long; 128 is the limit"),
        (("a", "n" * 501), "too long"),
        (("a", "\ufdfa" * 200), "too long"),
    ],
)
def test_a_wrong_concept_is_refused_with_the_reason(world: Worlds, concept: tuple[str, str], text: str) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(ConceptsInvalid, match=text):
            await post(world, ("good", ""), concept)
        with pytest.raises(ConceptsInvalid, match=text):
            await ensure(world, ("good", ""), concept)
        assert await listed(world) == []

    world.run(scenario)


def test_no_concepts_at_all_is_an_error(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        with pytest.raises(ConceptsInvalid, match="concepts is empty"):
            await post(world)

    world.run(scenario)


def test_public_concepts_are_read_from_any_app_and_listed_in_theirs(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        dog = await get(world, "ai_8S2Vq3cR")
        assert (dog.name, dog.app_id, dog.user_id, dog.visibility.gettable) == ("dog", "main", "clarifai", 50)
        assert await get(world, "ai_8S2Vq3cR", MAIN) == dog
        assert await listed(world) == []
        assert len(await listed(world, MAIN)) == 7
        assert await listed(world, MAIN, page=4, per_page=2) == ["ai_wfall000"]
        assert await listed(world, MAIN, page=1000, per_page=500) == []
        assert await listed(world, MAIN, id="AI_8s2") == ["ai_8S2Vq3cR"]
        with pytest.raises(DoesNotExist, match="no public one"):
            await get(world, "nothing")
        with pytest.raises(InvalidRequest, match="NUL"):
            await get(world, "\0")

    world.run(scenario)


def test_an_own_concept_hides_the_public_one_of_its_id(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await post(world, ("ai_8S2Vq3cR", "hound"))
        assert (await get(world, "ai_8S2Vq3cR")).name == "hound"
        assert (await get(world, "ai_8S2Vq3cR", MAIN)).name == "dog"
        assert await search(world, "dog") == []

    world.run(scenario)


def test_lists_are_paged_and_filtered_by_id(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await post(world, *((f"c{number}", "") for number in range(5)))
        assert await listed(world, page=2, per_page=2) == ["c2", "c3"]
        assert await listed(world, page=1000, per_page=500) == []
        assert await listed(world, id="C3") == ["c3"]
        assert await listed(world, id="%") == []

    world.run(scenario)


def test_a_patch_renames_own_concepts_only(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await post(world, ("a", "old"), ("b", "old"))
        assert await rename(world, ("b", "new b"), ("a", "新")) == ["new b", "新"]
        assert await rename(world, ("a", "")) == ["新"]
        for unknown in ("ai_8S2Vq3cR", "nothing"):
            with pytest.raises(DoesNotExist) as caught:
                await rename(world, ("a", "lost"), (unknown, "x"))
            assert caught.value.description == "Resource does not exist"
            assert unknown in caught.value.details
        assert (await get(world, "a")).name == "新"
        with pytest.raises(InvalidRequest, match="overwrite"):
            await rename(world, ("a", "x"), action="merge")
        with pytest.raises(ConceptsInvalid, match="duplicate"):
            await rename(world, ("a", "x"), ("a", "y"))
        with pytest.raises(ConceptsInvalid, match="no id"):
            await rename(world, ("", "x"))

    world.run(scenario)


def test_a_rename_counts_as_a_change_of_labels(world: Worlds) -> None:
    """By its name a concept is one with a public one: what is kept of labels in memory is out of date."""

    async def scenario(world: World) -> list[bool]:
        await post(world, ("mine", "mine"))
        changes = []
        for change in (
            lambda: rename(world, ("mine", "dog")),
            lambda: translate(world, "mine", de="Hund"),
            lambda: translate(world, "mine", "PatchConceptLanguages", de="Köter"),
            lambda: translate(world, "mine", "PatchConceptLanguages", en="cat"),
        ):
            await change()
            rows = await world.database.rows("SELECT labels_version = version FROM app_buckets ORDER BY version DESC")
            changes.append(rows[0][0])
        return changes

    assert world.run(scenario) == [True, False, False, True]


def test_patches_of_the_same_concepts_in_any_order_do_not_block_each_other(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        ids = [f"c{number}" for number in range(20)]
        await post(world, *((id, "") for id in ids))
        orders = [ids, ids[::-1]] * 8
        await asyncio.gather(*(rename(world, *((id, f"n{n}") for id in order)) for n, order in enumerate(orders)))
        names = await world.database.rows("SELECT DISTINCT name FROM concepts WHERE bucket = %s", [await bucket(world)])
        assert len(names) == 1
        assert names[0][0] in {f"n{n}" for n in range(len(orders))}

    world.run(scenario)


def test_translations_are_posted_listed_and_patched(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await post(world, ("pet", "pet"))
        await translate(world, "pet", ja="ペット", de="Haustier")
        assert await languages(world, "pet") == {"en": "pet", "de": "Haustier", "ja": "ペット"}
        await translate(world, "pet", "PatchConceptLanguages", de="Heimtier", en="domestic animal")
        assert await languages(world, "pet") == {"en": "domestic animal", "de": "Heimtier", "ja": "ペット"}
        assert (await get(world, "pet")).name == "domestic animal"
        request = service_pb2.GetConceptLanguageRequest(user_app_id=MINE, concept_id="pet", language="ja")
        assert (await world.call("GetConceptLanguage", request)).concept_language.name == "ペット"
        assert (await languages(world, "ai_8S2Vq3cR"))["ja"] == "犬"
        assert (await languages(world, "ai_8S2Vq3cR", MAIN))["en"] == "dog"

    world.run(scenario)


@pytest.mark.parametrize(
    ("rpc", "concept", "names", "error", "text"),
    [
        ("PostConceptLanguages", "pet", {"de": "x"}, ConceptsInvalid, "Duplicate language"),
        ("PostConceptLanguages", "pet", {"en": "x"}, ConceptsInvalid, "Duplicate language"),
        ("PostConceptLanguages", "pet", {"tlh": "x"}, ConceptsInvalid, "tlh"),
        ("PostConceptLanguages", "pet", {"ja": ""}, ConceptsInvalid, "empty"),
        ("PostConceptLanguages", "pet", {}, ConceptsInvalid, "no language"),
        ("PostConceptLanguages", "nothing", {"ja": "x"}, DoesNotExist, "nothing"),
        ("PostConceptLanguages", "ai_8S2Vq3cR", {"ja": "x"}, DoesNotExist, "of its own"),
        ("PatchConceptLanguages", "pet", {"ja": "x", "en": "lost"}, DoesNotExist, "ja"),
        ("PatchConceptLanguages", "nothing", {"en": "x"}, DoesNotExist, "nothing"),
    ],
)
def test_a_wrong_translation_is_refused_with_the_reason(
    world: Worlds, rpc: str, concept: str, names: dict[str, str], error: type[AppError], text: str
) -> None:
    async def scenario(world: World) -> None:
        await post(world, ("pet", "pet"))
        await translate(world, "pet", de="Haustier")
        with pytest.raises(error, match=text):
            await translate(world, concept, rpc, **names)
        assert await languages(world, "pet") == {"en": "pet", "de": "Haustier"}

    world.run(scenario)


def test_an_unknown_language_or_concept_has_no_name(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await post(world, ("pet", ""))
        for concept_id, language in [("pet", "ja"), ("nothing", "en"), ("ai_palm0000", "ja")]:
            request = service_pb2.GetConceptLanguageRequest(user_app_id=MINE, concept_id=concept_id, language=language)
            with pytest.raises(DoesNotExist):
                await world.call("GetConceptLanguage", request)

    world.run(scenario)


async def search(world: World, name: str, app: resources_pb2.UserAppIDSet = MINE, **fields: Any) -> list[str]:
    pagination = fields.pop("pagination", None)
    request = service_pb2.PostConceptsSearchesRequest(
        user_app_id=app, concept_query=resources_pb2.ConceptQuery(name=name, **fields), pagination=pagination
    )
    return [concept.name for concept in (await world.call("PostConceptsSearches", request)).concepts]


def test_public_concepts_are_found_in_an_app_that_never_made_any(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        assert await search(world, "palm") == ["palm"]
        assert await search(world, "WATER") == ["water", "waterfall"]
        assert await search(world, "*fall") == ["waterfall"]
        assert await search(world, "dog*") == ["dog"]
        assert await search(world, "人", language="zh") == ["人", "人群"]
        assert await search(world, "犬", language="ja") == ["犬"]
        assert await search(world, "palm", language="ja") == ["palm"]
        assert await search(world, "nothing") == []
        assert await search(world, "100%") == []
        assert len(await search(world, "")) == 7

    world.run(scenario)


def test_own_concepts_come_first(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await post(world, ("1", "dogma"), ("2", "Dog"), ("3", "hot dog"), ("4", "dog_sled"), ("5", "dog%"))
        assert await search(world, "dog") == ["Dog", "dog%", "dogma", "dog_sled", "dog"]
        assert await search(world, "*dog") == ["Dog", "hot dog", "dog"]
        assert await search(world, "dog_") == ["dog_sled"]
        assert await search(world, "dog", ignore_app_concepts=True) == ["dog"]
        assert await search(world, "dog", MAIN) == ["dog"]

    world.run(scenario)


def test_own_translations_are_found_in_their_language(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await post(world, ("1", "puppy"), ("2", "子犬"))
        await translate(world, "1", ja="犬の子")
        request = service_pb2.PostConceptsSearchesRequest(user_app_id=MINE)
        request.concept_query.name, request.concept_query.language = "犬", "ja"
        found = (await world.call("PostConceptsSearches", request)).concepts
        assert [(concept.name, concept.language, concept.app_id) for concept in found] == [
            ("犬の子", "ja", "photos"),
            ("犬", "ja", "main"),
        ]
        assert await search(world, "puppy", language="ja") == []
        assert await search(world, "puppy", language="de") == ["puppy"]

    world.run(scenario)


def test_pages_of_a_search_run_over_own_and_public_concepts(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await post(world, *((str(number), f"w{number}") for number in range(3)))
        everything = ["w0", "w1", "w2", "water", "waterfall"]
        assert await search(world, "w") == everything
        for per_page in (1, 2, 3, 4, 5):
            pages = [
                await search(world, "w", pagination=service_pb2.Pagination(page=page, per_page=per_page))
                for page in range(1, 7)
            ]
            assert [name for page in pages for name in page] == everything
        with pytest.raises(AppError, match="page \\* perPage cannot exceed"):
            await search(world, "w", pagination=service_pb2.Pagination(page=11, per_page=1000))

    world.run(scenario)


def test_a_search_can_name_its_source(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        model = resources_pb2.Model(id="aaa03c23b3724a16a56b629203edc62c")
        assert await search(world, "dog", model=model) == ["dog"]
        assert await search(world, "dog", model=resources_pb2.Model(id="general-image-embedding")) == []
        assert await search(world, "dog", workflow=resources_pb2.Workflow(id="General")) == ["dog"]
        assert await search(world, "dog", workflow_id="Empty") == []
        with pytest.raises(WorkflowDoesNotExist):
            await search(world, "dog", workflow_id="Nope")
        with pytest.raises(InvalidRequest, match="tlh"):
            await search(world, "dog", language="tlh")

    world.run(scenario)


def test_counts_go_by_input_label_and_status(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await post(world, ("dog", ""), ("cat", ""))
        number = await bucket(world)
        async with world.database.transaction() as connection:
            for id, status, value in [("i1", 30000, 1.0), ("i2", 30000, 0.0), ("i3", 30001, 1.0)]:
                cursor = await connection.execute(
                    "INSERT INTO inputs (bucket, id, created_at, modified_at, status, media)"
                    " VALUES (%s, %s, now(), now(), %s, 'image') RETURNING number",
                    [number, id, status],
                )
                row = await cursor.fetchone()
                assert row is not None
                cursor = await connection.execute(
                    "INSERT INTO areas (bucket, input_number, created_at) VALUES (%s, %s, now()) RETURNING id",
                    [number, row[0]],
                )
                area = await cursor.fetchone()
                assert area is not None
                await connection.execute(
                    "INSERT INTO annotations (bucket, input_number, id, area_id, created_at, modified_at, status,"
                    " trusted)"
                    " VALUES (%s, %s, 'a', %s, now(), now(), 24150, true)",
                    [number, row[0], area[0]],
                )
                await connection.execute(
                    "INSERT INTO labels VALUES (%s, 'dog', %s, 'a', %s, %s, true, now())",
                    [number, area[0], row[0], value],
                )
        answer = await world.call("GetConceptCounts", service_pb2.GetConceptCountsRequest(user_app_id=MINE))
        dog, cat = answer.concept_counts
        assert (dog.id, dog.concept_type_count.positive, dog.concept_type_count.negative) == ("dog", 2, 1)
        assert dog.detail_concept_count.processed == resources_pb2.ConceptTypeCount(positive=1, negative=1)
        assert dog.detail_concept_count.to_process.positive == 1
        assert (cat.id, cat.concept_type_count.positive) == ("cat", 0)

    world.run(scenario)


def test_missing_concepts_are_made_and_known_ones_kept(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await post(world, ("a", "Alpha"))
        pairs = [
            ("a", "ignored"),
            ("b", "Beta"),
            ("b", "Beta"),
            ("", "ALPHA"),
            ("", "Dog"),
            ("", "gamma ray"),
            ("ai_palm0000", ""),
        ]
        assert await ensure(world, *pairs) == ["a", "b", "b", "a", "ai_8S2Vq3cR", "gamma ray", "ai_palm0000"]
        assert await ensure(world, *pairs) == ["a", "b", "b", "a", "ai_8S2Vq3cR", "gamma ray", "ai_palm0000"]
        rows = await world.database.rows("SELECT id, name FROM concepts WHERE bucket = %s", [await bucket(world)])
        assert dict(rows) == {
            "a": "Alpha",
            "b": "Beta",
            "gamma ray": "gamma ray",
            "ai_palm0000": "palm",
            "ai_8S2Vq3cR": "Dog",
        }
        assert await ensure(world) == []
        assert await listed(world) == ["a", "b", "ai_8S2Vq3cR", "gamma ray", "ai_palm0000"]

    world.run(scenario)


def test_fifty_at_once_make_the_same_concepts_once(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        ids = [f"concept-{number}" for number in range(30)]
        orders = [[(id, "") for id in (ids if number % 2 else ids[::-1])] for number in range(50)]
        results = await asyncio.gather(*(ensure(world, *order) for order in orders))
        assert results == [[id for id, _ in order] for order in orders]
        assert sorted(await listed(world)) == sorted(ids)

    world.run(scenario)


def test_concepts_of_a_transaction_that_fails_are_not_made(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        async def failing() -> None:
            async with world.database.transaction() as connection:
                await world.book.ensure_concepts(connection, await bucket(world), [("lost", "")])
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await failing()
        assert await listed(world) == []

    world.run(scenario)


def test_a_reference_means_ids_first_then_names(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await post(world, ("a", "Dog"), ("people", "somebody"), ("b", "puppy"), ("c", "Puppy"), ("Hund", "wolf"))
        await translate(world, "b", ja="子犬", de="Welpe")
        dog = ("ai_8S2Vq3cR", "a")  # the app's "Dog" and the public dog are one concept
        cases: list[tuple[ConceptName, Meaning]] = [
            (ConceptName(id="a"), (dog,)),
            (ConceptName(id="ai_8S2Vq3cR"), (dog,)),
            (ConceptName(id="ai_8S2Vq3cR", name="other"), (dog,)),
            (ConceptName(id="people"), (("people",),)),
            (ConceptName(id="water"), (("ai_water000",),)),
            (ConceptName(id="nothing", name="palm"), (("ai_palm0000",),)),
            (ConceptName(name="DOG"), (dog,)),
            (ConceptName(name="puppy"), (("b",), ("c",))),
            (ConceptName(name="犬", language="ja"), (dog,)),
            (ConceptName(name="子犬", language="ja"), (("b",),)),
            (ConceptName(name="子犬"), ()),
            (ConceptName(name="dog", language="ja"), (dog,)),
            (ConceptName(name="hund", language="de"), (dog,)),
            (ConceptName(id="Hund", language="de"), (("Hund",),)),
            (ConceptName(name="dog", language="tlh"), (dog,)),
            (ConceptName(), ()),
            (ConceptName(id="\0", name="\0"), ()),
        ]
        async with world.database.connection() as connection:
            number = await bucket(world)
            found = await world.book.resolve_all(connection, number, [ref for ref, _ in cases], "en")
            assert found == [expected for _, expected in cases]
            assert await world.book.resolve_all(connection, number, [], "en") == []

    world.run(scenario)


def test_an_app_in_another_language_resolves_names_in_it_then_in_english(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        app = resources_pb2.App(id="inu", default_language="ja")
        await world.call("PostApps", service_pb2.PostAppsRequest(apps=[app]))
        ref = await world.identity.app("admin", "inu")
        assert ref is not None
        async with world.database.transaction() as connection:
            await world.book.ensure_concepts(connection, ref.bucket, [("x", "犬"), ("y", "dog")])
            names = [
                ConceptName(name="犬"),
                ConceptName(name="dog"),
                ConceptName(name="water"),
                ConceptName(name="Wasser", language="de"),
            ]
            # "dog" is that concept's name in this Japanese app: an English word, and no name of the public dog there.
            assert await world.book.resolve_all(connection, ref.bucket, names, "ja") == [
                (("ai_8S2Vq3cR", "x"),),
                (("y",),),
                (("ai_water000",),),
                (("ai_water000",),),
            ]
        request = service_pb2.GetConceptRequest(concept_id="ai_8S2Vq3cR")
        request.user_app_id.user_id, request.user_app_id.app_id = "me", "inu"
        assert (await world.call("GetConcept", request, key=PAT)).concept.name == "犬"

    world.run(scenario)
