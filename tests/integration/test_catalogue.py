"""Public models and workflows (api-spec 5.1, 5.2, 5.6)."""

from __future__ import annotations

from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from tests.integration.worlds import API_KEY, PAT, World, Worlds

from sightrank.errors import ModelDoesNotExist, WorkflowDoesNotExist, WorkflowNeedsModel

MAIN = resources_pb2.UserAppIDSet(user_id="clarifai", app_id="main")
TAGGER = "general-image-recognition"
EMBEDDER = "general-image-embedding"


def ids(user: str, app: str = "") -> resources_pb2.UserAppIDSet:
    return resources_pb2.UserAppIDSet(user_id=user, app_id=app)


async def models(world: World, app: Any = None, *, key: str = PAT, **fields: Any) -> list[str]:
    request = service_pb2.ListModelsRequest(user_app_id=app, **fields)
    return [model.id for model in (await world.call("ListModels", request, key=key)).models]


@pytest.mark.parametrize("key", [API_KEY, PAT])
@pytest.mark.parametrize("model_id", [TAGGER, "aaa03c23b3724a16a56b629203edc62c"])
def test_the_general_model_is_found_by_id_and_alias_without_an_app(world: Worlds, key: str, model_id: str) -> None:
    async def scenario(world: World) -> None:
        request = service_pb2.GetModelRequest(model_id=model_id)
        model = (await world.call("GetModel", request, key=key)).model
        assert (model.id, model.name, model.model_type_id) == (TAGGER, "Image Recognition", "visual-classifier")
        assert (model.user_id, model.app_id, model.visibility.gettable) == ("clarifai", "main", 50)
        version = model.model_version
        assert (version.id, version.status.code, version.active_concept_count) == ("v1", 21100, 7)

    world.run(scenario)


def test_models_and_versions_that_are_not_here_do_not_exist(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        for model_id, version in [("nope", ""), ("", ""), (TAGGER, "bb186755eda04f9cbb6fe32e816be104"), (TAGGER, "v0")]:
            for rpc in ("GetModel", "GetModelOutputInfo"):
                with pytest.raises(ModelDoesNotExist) as caught:
                    await world.call(rpc, service_pb2.GetModelRequest(model_id=model_id, version_id=version))
                assert caught.value.description == "Model does not exist"
        assert "version installed here is v1" in caught.value.details

    world.run(scenario)


def test_the_versions_that_the_guide_prints_are_answered_by_the_installed_ones(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        printed = {"model_id": "aaa03c23b3724a16a56b629203edc62c", "version_id": "aa7f35c01e0642fda5cf400f543e7c40"}
        for rpc in ("GetModel", "GetModelOutputInfo"):
            model = (await world.call(rpc, service_pb2.GetModelRequest(**printed))).model
            assert (model.id, model.model_version.id) == (TAGGER, "v1")
        version = (await world.call("GetModelVersion", service_pb2.GetModelVersionRequest(**printed))).model_version
        assert version.id == "v1"
        listed = service_pb2.ListModelConceptsRequest(per_page=3, **printed)
        assert len((await world.call("ListModelConcepts", listed)).concepts) == 3

    world.run(scenario)


def test_output_info_names_the_vocabulary(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        request = service_pb2.GetModelRequest(model_id=TAGGER)
        model = (await world.call("GetModelOutputInfo", request)).model
        assert "dog" in [concept.name for concept in model.output_info.data.concepts]
        request = service_pb2.GetModelRequest(model_id=EMBEDDER)
        model = (await world.call("GetModelOutputInfo", request)).model
        assert list(model.output_info.data.concepts) == []
        listed = service_pb2.ListModelConceptsRequest(user_app_id=MAIN, model_id=TAGGER, per_page=3)
        assert len((await world.call("ListModelConcepts", listed)).concepts) == 3

    world.run(scenario)


def test_versions_can_be_read(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        request = service_pb2.ListModelVersionsRequest(user_app_id=MAIN, model_id=TAGGER)
        assert [version.id for version in (await world.call("ListModelVersions", request)).model_versions] == ["v1"]
        request = service_pb2.ListModelVersionsRequest(user_app_id=MAIN, model_id=TAGGER, page=2)
        assert list((await world.call("ListModelVersions", request)).model_versions) == []
        one = service_pb2.GetModelVersionRequest(user_app_id=MAIN, model_id=TAGGER, version_id="v1")
        assert (await world.call("GetModelVersion", one)).model_version.id == "v1"

    world.run(scenario)


def test_models_are_listed_by_app_by_user_or_all(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        both = [TAGGER, EMBEDDER]
        for key in (API_KEY, PAT):
            assert await models(world, key=key) == both
            assert await models(world, ids("me"), key=key) == both
            assert await models(world, MAIN, key=key) == both
            assert await models(world, ids("me", "photos"), key=key) == []
            assert await models(world, ids("admin"), key=key) == []
        assert await models(world, per_page=1, page=2) == [EMBEDDER]
        assert await models(world, page=1000, per_page=500) == []
        assert await models(world, featured_only=True) == [TAGGER]
        assert await models(world, model_type_id="visual-embedder") == [EMBEDDER]
        assert await models(world, name="Image Rec") == [TAGGER]
        assert await models(world, search="embedding") == [EMBEDDER]
        assert await models(world, starred_only=True) == []
        assert await models(world, dont_fetch_from_main=True) == []

    world.run(scenario)


def test_models_are_searched_by_name_only(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        async def found(name: str, **fields: str) -> list[str]:
            request = service_pb2.PostModelsSearchesRequest()
            request.model_query.name = name
            request.model_query.model_type_id = fields.get("model_type_id", "")
            return [model.name for model in (await world.call("PostModelsSearches", request, key=API_KEY)).models]

        assert await found("*general*") == ["General Image Embedding"]
        assert await found("image recognition") == ["Image Recognition"]
        assert await found("image") == []
        assert await found("*IMAGE*") == ["Image Recognition", "General Image Embedding"]
        assert await found("*", model_type_id="visual-embedder") == ["General Image Embedding"]
        assert len(await found("")) == 2

    world.run(scenario)


def test_workflows_can_be_read(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        request = service_pb2.GetWorkflowRequest(workflow_id="General")
        workflow = (await world.call("GetWorkflow", request, key=API_KEY)).workflow
        assert [node.model.id for node in workflow.nodes] == [TAGGER, EMBEDDER]
        assert (workflow.user_id, workflow.app_id, workflow.version.id) == ("clarifai", "main", "v1")
        listed = await world.call("ListWorkflows", service_pb2.ListWorkflowsRequest(user_app_id=MAIN, per_page=10))
        assert [workflow.id for workflow in listed.workflows] == [
            "General",
            "Empty",
            "Face",
            "Universal",
            "Language-Understanding",
        ]
        own = service_pb2.ListWorkflowsRequest(user_app_id=ids("me", "photos"))
        assert list((await world.call("ListWorkflows", own)).workflows) == []
        versions = service_pb2.ListWorkflowVersionsRequest(user_app_id=MAIN, workflow_id="General")
        (version,) = (await world.call("ListWorkflowVersions", versions)).workflow_versions
        one = service_pb2.GetWorkflowVersionRequest(
            user_app_id=MAIN, workflow_id="General", workflow_version_id=version.id
        )
        assert (await world.call("GetWorkflowVersion", one)).workflow_version == version
        one.workflow_version_id = "other"
        with pytest.raises(WorkflowDoesNotExist, match="version 'other'"):
            await world.call("GetWorkflowVersion", one)

    world.run(scenario)


def test_a_workflow_of_clarifais_that_is_not_here_says_what_is(world: Worlds) -> None:
    async def scenario(world: World) -> None:
        for workflow_id in ("Universal", "Face", "Language-Understanding"):
            shown = await world.call("GetWorkflow", service_pb2.GetWorkflowRequest(workflow_id=workflow_id))
            assert list(shown.workflow.nodes) == []
            app = resources_pb2.App(id=f"app-{workflow_id}", default_workflow_id=workflow_id)
            with pytest.raises(WorkflowNeedsModel, match=f"{workflow_id} cannot run: "):
                await world.call("PostApps", service_pb2.PostAppsRequest(user_app_id=ids("me"), apps=[app]))
        with pytest.raises(WorkflowDoesNotExist):
            await world.call("GetWorkflow", service_pb2.GetWorkflowRequest(workflow_id="general"))

    world.run(scenario)
