"""Models of apps: made, changed, listed, found and removed."""

from __future__ import annotations

from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import (
    Concept,
    Data,
    Image,
    Model,
    ModelVersion,
    OutputConfig,
    OutputInfo,
    UserAppIDSet,
    Visibility,
)
from google.protobuf.struct_pb2 import Struct
from tests.integration.worlds import API_KEY, PAT, World, Worlds

from sightrank.api.identity import key_hash
from sightrank.api.model_versions import MAX_WAITING
from sightrank.api.output_drafts import MAX_CONCEPTS
from sightrank.errors import (
    AppError,
    DoesNotExist,
    DuplicateKey,
    InsufficientScopes,
    InvalidRequest,
    ModelDoesNotExist,
    ModelForbidden,
    ModelInvalidArgument,
    ServerBusy,
    WorkflowNeedsModel,
)

TRAINED, UNTRAINED, QUEUED = 21100, 21102, 21103
TAGGER = "general-image-recognition"


def struct(**values: Any) -> Struct:
    made = Struct()
    made.update(values)
    return made


def concepts(*ids: str, **values: float) -> OutputInfo:
    return OutputInfo(
        data=Data(
            concepts=[*(Concept(id=id) for id in ids), *(Concept(id=id, value=value) for id, value in values.items())]
        )
    )


def ids_of(message: Any) -> list[str]:
    return [concept.id for concept in message.output_info.data.concepts]


async def ask(world: World, rpc: str, *, key: str = API_KEY, **fields: Any) -> Any:
    """One rpc on the app of the app key."""
    name = {"GetModelOutputInfo": "GetModel"}.get(rpc, rpc)
    return await world.call(rpc, getattr(service_pb2, f"{name}Request")(**fields), key=key)


async def make(world: World, *models: Model) -> Model:
    made: Model = (await ask(world, "PostModels", models=models)).model
    return made


async def patch(world: World, action: str, *models: Model) -> list[Model]:
    return list((await ask(world, "PatchModels", action=action, models=models)).models)


async def get(world: World, model_id: str, **fields: Any) -> Model:
    found: Model = (await ask(world, "GetModel", model_id=model_id, **fields)).model
    return found


async def listed(world: World, **fields: Any) -> list[str]:
    return [model.id for model in (await ask(world, "ListModels", dont_fetch_from_main=True, **fields)).models]


async def versions(world: World, model_id: str) -> list[ModelVersion]:
    return list((await ask(world, "ListModelVersions", model_id=model_id)).model_versions)


async def refused(world: World, error: type[AppError], rpc: str, **fields: Any) -> str:
    with pytest.raises(error) as caught:
        await ask(world, rpc, **fields)
    return caught.value.details


def test_an_id_alone_makes_an_untrained_classifier(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        model = await make(world, Model(id="mine"))

        assert (model.id, model.name, model.model_type_id) == ("mine", "mine", "embedding-classifier")
        assert (model.app_id, model.user_id) == (world.first.credentials.app_id, world.first.credentials.user_id)
        assert model.model_version.id
        assert model.model_version.status.code == UNTRAINED
        assert model.visibility.gettable == Visibility.PRIVATE
        assert (await get(world, "mine")) == model
        deprecated = (await ask(world, "PostModels", model=Model(id="other"))).model
        assert deprecated.id == "other"
        nameless = await make(world, Model())
        assert len(nameless.id) == 32

    world.run(scenario)


def test_a_model_keeps_what_it_is_told(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        config = OutputConfig(concepts_mutually_exclusive=True, hyper_params=struct(custom_training_cfg="x", args={}))
        info = concepts("b", "a")
        info.output_config.CopyFrom(config)
        model = Model(
            id="told",
            name="Told",
            model_type_id="visual-classifier",
            description="what",
            notes="why",
            toolkits=["one"],
            use_cases=["two"],
            languages=["en"],
            metadata=struct(number=123),
            image=Image(url="https://example.com/m.png"),
            visibility=Visibility(gettable=Visibility.PUBLIC),
            output_info=info,
        )

        made = await make(world, model)

        assert ids_of(made) == ["b", "a"]
        assert made.output_info.output_config == config
        assert {concept.value for concept in made.output_info.data.concepts} == {1.0}
        for name in ("name", "model_type_id", "description", "notes", "toolkits", "use_cases", "languages"):
            assert getattr(made, name) == getattr(model, name)
        assert (made.metadata, made.image, made.visibility) == (model.metadata, model.image, model.visibility)
        assert {concept.id for concept in (await ask(world, "ListConcepts")).concepts} == {"a", "b"}

    world.run(scenario)


def test_all_of_the_models_are_made_or_none(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await make(world, Model(id="there"))
        for models, error, words in [
            ([Model(id="new"), Model(id="there")], DuplicateKey, "already a model 'there'"),
            ([Model(id="new"), Model(id="new")], DuplicateKey, "model 'new' twice"),
            ([Model(id="new"), Model(id="no/id")], ModelInvalidArgument, "up to 128 letters"),
            ([Model(id="new", model_type_id="clusterer")], ModelInvalidArgument, "come with the server"),
            ([Model(id="new", model_type_id="dreamer")], ModelInvalidArgument, "no model type 'dreamer'"),
            ([Model(id="new", image=Image(base64=b"x"))], ModelInvalidArgument, "image.url"),
            (
                [Model(id="new", output_info=OutputInfo(data=Data(concepts=[Concept()])))],
                ModelInvalidArgument,
                "neither",
            ),
            ([], InvalidRequest, "models is empty"),
            ([Model()] * 129, InvalidRequest, "at most 128"),
        ]:
            assert words in await refused(world, error, "PostModels", models=models)
        assert await listed(world) == ["there"]
        assert list((await ask(world, "ListConcepts")).concepts) == []

    world.run(scenario)


@pytest.mark.parametrize(
    ("value", "says"), [(float("nan"), "not finite"), (float("-inf"), "not finite"), ("a\0", "zero character")]
)
def test_parameters_that_cannot_be_stored_are_refused_by_their_name(
    world: Worlds, value: float | str, says: str
) -> None:
    async def scenario(world: World) -> None:
        before = await make(world, Model(id="m", output_info=concepts("cat")))
        params = OutputInfo(params=struct(k=[{"deep": value}]))
        hyper = OutputInfo(output_config=OutputConfig(hyper_params=struct(strength=value)))
        older = OutputInfo(output_config=OutputConfig(model_metadata=struct(k=value)))
        for info, name in (
            (params, "output_info.params"),
            (hyper, "output_config.hyper_params"),
            (older, "output_config.model_metadata"),
        ):
            for type_id in ("embedding-classifier", "knn-concept"):
                model = Model(id="new", model_type_id=type_id, output_info=info)
                words = await refused(world, ModelInvalidArgument, "PostModels", models=[model])
                assert name in words
                assert says in words
            change = [Model(id="m", output_info=info)]
            words = await refused(world, ModelInvalidArgument, "PatchModels", action="merge", models=change)
            assert name in words
            assert says in words
            versions = [ModelVersion(output_info=info)]
            words = await refused(
                world, ModelInvalidArgument, "PostModelVersions", model_id="m", model_versions=versions
            )
            assert name in words
            assert says in words
        trained = [ModelVersion(train_info=resources_pb2.TrainInfo(params=struct(strength=value)))]
        words = await refused(world, ModelInvalidArgument, "PostModelVersions", model_id="m", model_versions=trained)
        assert "model_versions[0].train_info.params" in words
        assert await get(world, "m") == before

    world.run(scenario)


def test_parameters_have_a_limit(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await make(world, Model(id="m", output_info=OutputInfo(params=struct(k="x" * 1_000_000))))
        much = OutputInfo(params=struct(k="x" * 1_100_000))
        models, versions = [Model(id="new", output_info=much)], [ModelVersion(output_info=much)]
        for rpc, fields in (
            ("PostModels", {"models": models}),
            ("PostModelVersions", {"model_id": "m", "model_versions": versions}),
        ):
            assert "1048576 is the limit" in await refused(world, ModelInvalidArgument, rpc, **fields)

    world.run(scenario)


def test_an_operator_works_at_once_and_each_change_is_a_version(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        info = concepts(cat=0.8)
        info.params.update({"concept_threshold_type": 2})

        made = await make(world, Model(id="sure", model_type_id="concept-threshold", output_info=info))

        asked = {"model_id": "sure", "version_id": made.model_version.id}
        version = (await ask(world, "GetModelVersion", **asked)).model_version
        assert version.status.code == TRAINED
        assert version.completed_at.seconds
        assert [(one.id, one.value) for one in version.output_info.data.concepts] == [("cat", pytest.approx(0.8))]
        more = concepts(dog=0.5)
        (patched,) = await patch(world, "merge", Model(id="sure", output_info=more))
        assert [(one.id, round(one.value, 2)) for one in patched.output_info.data.concepts] == [
            ("cat", 0.8),
            ("dog", 0.5),
        ]
        assert patched.model_version.id != version.id
        (renamed,) = await patch(world, "merge", Model(id="sure", name="Sure"))
        assert renamed.model_version.id == patched.model_version.id
        info.data.concepts[0].value = 0.9
        posted = ModelVersion(output_info=info)
        answer = await ask(world, "PostModelVersions", model_id="sure", model_versions=[posted])
        assert answer.model.model_version.status.code == TRAINED
        assert [one.value for one in answer.model.model_version.output_info.data.concepts] == [pytest.approx(0.9)]
        assert [one.id for one in await versions(world, "sure")] == [
            answer.model.model_version.id,
            patched.model_version.id,
            version.id,
        ]
        assert (await ask(world, "GetModelVersion", **asked)).model_version == version
        rows = await world.database.rows("SELECT params FROM model_versions WHERE id = %s", [version.id])
        assert rows[0][0]["concepts"] == {"cat": pytest.approx(0.8)}
        bad = concepts(cat=0.5)
        bad.params.update({"how": "much"})
        wrong = Model(id="wrong", model_type_id="concept-threshold", output_info=bad)
        assert "no parameter 'how'" in await refused(world, ModelInvalidArgument, "PostModels", models=[wrong])

    world.run(scenario)


def test_patches_merge_overwrite_and_remove(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        info = concepts("b", "a")
        info.output_config.hyper_params.update({"C": 1, "kept": True})
        await make(
            world,
            Model(id="m", notes="n", toolkits=["x"], metadata=struct(a=1, deep={"b": 2}), output_info=info),
        )

        change = Model(id="m", name="New", toolkits=["y", "x"], metadata=struct(deep={"c": 3}))
        change.output_info.data.concepts.add(id="c")
        change.output_info.output_config.hyper_params.update({"C": 2})
        (merged,) = await patch(world, "merge", change)
        assert (merged.name, merged.notes, list(merged.toolkits)) == ("New", "n", ["x", "y"])
        assert dict(merged.metadata["deep"]) == {"b": 2, "c": 3}
        assert ids_of(merged) == ["b", "a", "c"]
        assert dict(merged.output_info.output_config.hyper_params) == {"C": 2, "kept": True}

        change = Model(id="m", toolkits=["z"], metadata=struct(only=1), output_info=concepts("q", "p"))
        (replaced,) = await patch(world, "overwrite", change)
        assert (replaced.name, list(replaced.toolkits), dict(replaced.metadata)) == ("New", ["z"], {"only": 1})
        assert ids_of(replaced) == ["p", "q"]
        assert dict(replaced.output_info.output_config.hyper_params) == {"C": 2, "kept": True}

        change = Model(id="m", toolkits=["z"], metadata=struct(only=True), output_info=concepts("q"))
        (less,) = await patch(world, "remove", change)
        assert (list(less.toolkits), dict(less.metadata), ids_of(less)) == ([], {}, ["p"])
        assert await get(world, "m") == less

    world.run(scenario)


def test_patches_that_are_refused_change_nothing(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        before = await make(world, Model(id="m"))
        for action, models, error in [
            ("merge", [Model(id="m", name="x"), Model(id="unknown")], ModelDoesNotExist),
            ("merge", [Model(id="m", name="x"), Model(id=TAGGER)], ModelForbidden),
            ("merge", [Model(id="m"), Model(id="m")], InvalidRequest),
            ("merge", [Model(id="m", model_type_id="knn-concept")], ModelInvalidArgument),
            ("remove", [Model(id="m", name="m")], ModelInvalidArgument),
            ("improve", [Model(id="m")], InvalidRequest),
            ("merge", [], InvalidRequest),
        ]:
            await refused(world, error, "PatchModels", action=action, models=models)
        assert await get(world, "m") == before

    world.run(scenario)


def test_public_models_are_read_beside_own_ones_and_never_written(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        assert (await get(world, TAGGER)).app_id == "main"
        await make(world, Model(id=TAGGER, name="Mine"))
        assert (await get(world, TAGGER)).name == "Mine"
        main = UserAppIDSet(user_id="clarifai", app_id="main")
        assert (await get(world, TAGGER, user_app_id=main)).app_id == "main"
        await ask(world, "DeleteModel", model_id=TAGGER)
        assert "nobody can change" in await refused(world, ModelForbidden, "DeleteModel", model_id=TAGGER)
        await refused(world, ModelForbidden, "DeleteModels", ids=[TAGGER])
        await refused(world, ModelForbidden, "PostModelVersions", model_id=TAGGER)
        await refused(world, ModelForbidden, "DeleteModelVersion", model_id=TAGGER, version_id="v1")
        await refused(world, InsufficientScopes, "DeleteModel", model_id=TAGGER, user_app_id=main)
        with pytest.raises(InsufficientScopes):
            await ask(world, "PostModels", key=PAT, models=[Model(id="x")], user_app_id=main)

    world.run(scenario)


def test_lists_are_sorted_filtered_and_paged(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await make(world, Model(id="one", name="Big Cats", toolkits=["t"], notes="felines"))
        await make(world, Model(id="two", name="small_cats", model_type_id="visual-classifier"))
        await make(
            world, Model(id="three", name="Dogs", model_type_id="concept-threshold", output_info=concepts(d=0.5))
        )
        assert await listed(world) == ["three", "two", "one"]
        assert await listed(world, sort_ascending=True) == ["one", "two", "three"]
        assert await listed(world, sort_by_name=True, sort_ascending=True) == ["one", "three", "two"]
        assert await listed(world, name="cats") == ["two", "one"]
        assert await listed(world, name="small_*") == ["two"]
        assert await listed(world, name="l_c") == ["two"]
        assert await listed(world, search="felines big") == ["one"]
        assert await listed(world, model_type_id="visual-classifier") == ["two"]
        assert await listed(world, toolkits=["t"]) == ["one"]
        assert await listed(world, trained_only=True) == ["three"]
        assert await listed(world, starred_only=True) == []
        assert await listed(world, input_fields=["image"]) == ["two", "one"]
        assert await listed(world, page=2, per_page=2) == ["one"]
        assert await listed(world, page=1000, per_page=500) == []
        await patch(world, "merge", Model(id="one", notes="again"))
        assert await listed(world, sort_by_modified_at=True) == ["one", "three", "two"]
        for model in (await ask(world, "ListModels")).models:
            assert model.id
            assert model.name
            assert model.app_id
            assert model.user_id
            assert model.model_type_id
            assert model.model_version.id

    world.run(scenario)


def test_own_models_come_before_public_ones_where_no_app_is_named(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        for model_id in ("one", "two"):
            await make(world, Model(id=model_id, name=f"General {model_id}"))
        public = [model.id for model in world.catalogue.models]
        every = [model.id for model in (await ask(world, "ListModels")).models]
        assert every == ["two", "one", *public]
        pages = [
            [model.id for model in (await ask(world, "ListModels", page=page, per_page=3)).models] for page in (1, 2)
        ]
        assert pages[0] + pages[1] == every[:6]
        me = UserAppIDSet(user_id="me")
        assert [m.id for m in (await ask(world, "ListModels", key=PAT, user_app_id=me)).models] == every
        assert [m.id for m in (await ask(world, "ListModels", key=PAT)).models] == public
        app = UserAppIDSet(user_id="me", app_id=world.first.credentials.app_id)
        assert [m.id for m in (await ask(world, "ListModels", key=PAT, user_app_id=app)).models] == ["two", "one"]
        query = resources_pb2.ModelQuery(name="*general*")
        found = (await ask(world, "PostModelsSearches", model_query=query)).models
        assert [model.id for model in found][:2] == ["two", "one"]
        assert all("general" in model.name.lower() for model in found)

    world.run(scenario)


def test_somebody_else_sees_public_models_of_public_apps_only(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await make(world, Model(id="open", visibility=Visibility(gettable=50)), Model(id="closed"))
        await world.database.execute("UPDATE apps SET visibility = 50 WHERE id = %s", [world.first.credentials.app_id])
        await world.database.execute("INSERT INTO users (id) VALUES ('other')")
        world.identity.forget()
        owner = UserAppIDSet(user_id=world.first.credentials.user_id, app_id=world.first.credentials.app_id)
        key = await key_of(world, "other")

        assert (await ask(world, "GetModel", key=key, model_id="open", user_app_id=owner)).model.id == "open"
        with pytest.raises(ModelDoesNotExist):
            await ask(world, "GetModel", key=key, model_id="closed", user_app_id=owner)
        found = await ask(world, "ListModels", key=key, user_app_id=owner)
        assert [model.id for model in found.models] == ["open"]
        with pytest.raises(InsufficientScopes):
            await ask(world, "DeleteModel", key=key, model_id="open", user_app_id=owner)

    world.run(scenario)


async def key_of(world: World, user_id: str) -> str:
    """A personal access token of another user."""
    key = "f" * 32
    await world.database.execute(
        "INSERT INTO keys (hash, prefix, user_id, type) VALUES (%s, 'ffff', %s, 'personal_access_token')",
        [key_hash(key), user_id],
    )
    return key


def test_deleting_takes_versions_along(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        for model_id in ("one", "two", "three"):
            await make(world, Model(id=model_id, output_info=concepts("c")))
        await ask(world, "PostModelVersions", model_id="one")
        await ask(world, "DeleteModel", model_id="one")
        await refused(world, ModelDoesNotExist, "DeleteModel", model_id="one")
        await ask(world, "DeleteModels", ids=["two", "unknown"])
        assert await listed(world) == ["three"]
        assert len(await world.database.rows("SELECT 1 FROM model_versions")) == 1
        await refused(world, InvalidRequest, "DeleteModels")
        await ask(world, "DeleteModels", delete_all=True)
        assert await listed(world) == []

    world.run(scenario)


def test_a_model_cannot_grow_beyond_so_many_concepts(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await make(world, Model(id="m", output_info=concepts(*(f"a{i}" for i in range(MAX_CONCEPTS)))))

        details = await refused(
            world,
            ModelInvalidArgument,
            "PatchModels",
            action="merge",
            models=[Model(id="m", output_info=concepts("b"))],
        )

        assert "2001 concepts" in details
        same = Model(id="m", output_info=concepts("a7"))
        assert len(ids_of((await patch(world, "merge", same))[0])) == MAX_CONCEPTS

    world.run(scenario)


def test_what_is_stored_of_models_and_versions_is_bounded(world: Worlds) -> None:
    half, much = struct(note="x" * 600_000), struct(note="x" * 2**20)

    async def scenario(world: World) -> None:
        await make(world, Model(id="m"), Model(id="over", model_type_id="image-crop", output_info=OutputInfo()))
        large = Model(id="large", output_info=OutputInfo(output_config=OutputConfig(hyper_params=much)))
        version = ModelVersion(output_info=concepts("a"), metadata=half, train_info={"params": half})

        of_model = await refused(world, ModelInvalidArgument, "PostModels", models=[large])
        large.id = "m"
        of_patch = await refused(world, ModelInvalidArgument, "PatchModels", action="merge", models=[large])
        of_version = await refused(
            world, ModelInvalidArgument, "PostModelVersions", model_id="m", model_versions=[version]
        )
        (first,) = (await ask(world, "ListModelVersions", model_id="m")).model_versions
        note = ModelVersion(id=first.id, metadata=much)
        of_note = await refused(
            world,
            ModelInvalidArgument,
            "PatchModelVersions",
            model_id="m",
            action="merge",
            model_versions=[note],
        )

        for details in (of_model, of_patch, of_version, of_note):
            assert "1048576 is the limit" in details
        assert [one.id for one in (await ask(world, "ListModels")).models if one.app_id != "main"] == ["over", "m"]
        assert not (await get(world, "m")).output_info.output_config.hyper_params.fields
        version.ClearField("train_info")
        await ask(world, "PostModelVersions", model_id="m", model_versions=[version])

    world.run(scenario)


def test_only_what_searches_rank_by_counts_as_a_change_of_labels(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        async def changed(rpc: str, **fields: Any) -> bool:
            before = await world.database.rows("SELECT version, labels_version FROM app_buckets ORDER BY bucket")
            await ask(world, rpc, **fields)
            after = await world.database.rows("SELECT version, labels_version FROM app_buckets ORDER BY bucket")
            (pair,) = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
            return bool(pair[0][1] != pair[1][1])

        crop = Model(id="crop", model_type_id="image-crop", output_info=OutputInfo(params=struct(margin=0.1)))
        assert not await changed("PostModels", models=[Model(id="m", output_info=concepts("a"))])
        assert not await changed("PostModels", models=[crop])
        note = [Model(id="m", description="of boats"), Model(id="crop", description="wider")]
        assert not await changed("PatchModels", action="merge", models=note)
        crop.output_info.params["margin"] = 0.2
        assert not await changed("PatchModels", action="merge", models=[crop])
        operator = ModelVersion(output_info=OutputInfo(params=struct(margin=0.3)))
        assert not await changed("PostModelVersions", model_id="crop", model_versions=[operator])
        assert not await changed("PostModelVersions", model_id="m")
        # What was trained of it goes too.
        assert await changed("DeleteModel", model_id="m")

    world.run(scenario)


def test_so_many_versions_and_no_more_can_wait_to_be_trained(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await make(world, Model(id="m", output_info=concepts("a")))
        for _ in range(MAX_WAITING):
            await ask(world, "PostModelVersions", model_id="m")

        details = await refused(world, ServerBusy, "PostModelVersions", model_id="m")

        assert "post when some are done" in details
        assert (await get(world, "m")).version_count == MAX_WAITING + 1

    world.run(scenario)


def test_versions_are_read_patched_and_removed(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await make(world, Model(id="m", output_info=concepts("a", "b")))
        posted = ModelVersion(id="v-1", metadata=struct(k=1), visibility=Visibility(gettable=50))
        answer = await ask(world, "PostModelVersions", model_id="m", model_versions=[posted], description="why")
        made = answer.model.model_version
        assert world.to_train.is_set()
        assert (made.id, made.status.code, made.description) == ("v-1", QUEUED, "why")
        assert (made.active_concept_count, ids_of(made), made.visibility.gettable) == (2, ["a", "b"], 50)
        await refused(world, DuplicateKey, "PostModelVersions", model_id="m", model_versions=[posted])
        assert [one.status.code for one in await versions(world, "m")] == [QUEUED, UNTRAINED]
        trained = await ask(world, "ListModelVersions", model_id="m", trained_only=True)
        assert list(trained.model_versions) == []
        of_a = await ask(world, "ListModelVersions", model_id="m", concept_ids=["a"])
        assert [one.id for one in of_a.model_versions] == ["v-1"]

        change = ModelVersion(id="v-1", description="new", metadata=struct(j=2))
        patched = await ask(world, "PatchModelVersions", model_id="m", action="merge", model_versions=[change])
        (version,) = patched.model_versions
        assert (version.description, dict(version.metadata), version.status.code) == ("new", {"k": 1, "j": 2}, QUEUED)
        fixed = [ModelVersion(id="v-1", output_info=concepts("c"))]
        words = await refused(
            world, ModelInvalidArgument, "PatchModelVersions", model_id="m", action="merge", model_versions=fixed
        )
        assert "versions do not change" in words
        nowhere = [ModelVersion(id="v-9", description="new")]
        words = await refused(
            world, ModelDoesNotExist, "PatchModelVersions", model_id="m", action="merge", model_versions=nowhere
        )
        assert "no model 'm' with version 'v-9'" in words

        await ask(world, "DeleteModelVersion", model_id="m", version_id="v-1")
        for rpc in ("GetModelVersion", "DeleteModelVersion", "GetModel", "GetModelOutputInfo"):
            words = await refused(world, ModelDoesNotExist, rpc, model_id="m", version_id="v-1")
            assert "ListModelVersions" in words
        assert "version_id is empty" in await refused(world, ModelInvalidArgument, "DeleteModelVersion", model_id="m")
        await refused(world, ModelDoesNotExist, "ListModelVersions", model_id="unknown")

    world.run(scenario)


def test_a_model_whose_app_cannot_embed_is_not_trained(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await make(world, Model(id="m", output_info=concepts("a")))
        await world.database.execute("UPDATE apps SET workflow_id = 'Face'")
        world.identity.forget()
        words = await refused(world, WorkflowNeedsModel, "PostModelVersions", model_id="m")
        assert "OpenCV" in words
        versions = (await ask(world, "ListModelVersions", model_id="m")).model_versions
        assert [version.status.code for version in versions] == [21102]

    world.run(scenario)


def test_concepts_and_times_of_a_model(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        await make(world, Model(id="m", output_info=concepts("b", "a", "ab")))
        found = await ask(world, "ListModelConcepts", model_id="m")
        assert [concept.id for concept in found.concepts] == ["b", "a", "ab"]
        found = await ask(world, "ListModelConcepts", model_id="m", search="A")
        assert [concept.id for concept in found.concepts] == ["a", "ab"]
        found = await ask(world, "ListModelConcepts", model_id="m", page=2, per_page=2)
        assert [concept.id for concept in found.concepts] == ["ab"]
        assert list((await ask(world, "ListModelInputs", model_id="m")).inputs) == []
        assert list((await ask(world, "ListModelInputs", model_id=TAGGER)).inputs) == []
        short, long = [
            (await ask(world, "PostModelVersionsTrainingTimeEstimate", model_id="m", estimated_input_count=count))
            for count in (10, 100_000)
        ]
        assert short.training_time_estimates[0].ToTimedelta() < long.training_time_estimates[0].ToTimedelta()

    world.run(scenario)


def test_writing_into_a_deleted_app_fails(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        app = UserAppIDSet(user_id="me", app_id="gone")
        apps = [resources_pb2.App(id="gone")]
        await ask(world, "PostApps", key=PAT, user_app_id=UserAppIDSet(user_id="me"), apps=apps)
        await ask(world, "PostModels", key=PAT, user_app_id=app, models=[Model(id="m", output_info=concepts("a"))])
        await ask(world, "DeleteApp", key=PAT, user_app_id=app)
        with pytest.raises(DoesNotExist):
            await ask(world, "PostModelVersions", key=PAT, user_app_id=app, model_id="m")
        assert await world.database.rows("SELECT 1 FROM models") == []

    world.run(scenario)
