"""The four lists of tags of a model, each with an rpc of its own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Model, UserAppIDSet
from tests.integration.serving import PAT, USER, App

from sightrank.api.model_tags import MAX_TAG_CHARACTERS, MAX_TAGS

SCOPES, INVALID_REQUEST, UNKNOWN, FORBIDDEN, INVALID = 11007, 11102, 21200, 21201, 21202
#: Rpc, its field, the field of Model, and the end of its path.
TAGS = [
    ("PatchModelToolkits", "toolkits", "toolkits", "toolkits"),
    ("PatchModelUseCases", "usecases", "use_cases", "usecases"),
    ("PatchModelLanguages", "languages", "languages", "languages"),
    ("PatchModelCheckConsents", "check_consents", "check_consents", "check_consents"),
]
of_all = pytest.mark.parametrize(("rpc", "sent", "kept", "path"), TAGS, ids=[one[0] for one in TAGS])


def model(app: App) -> Model:
    found: Model = app.call("GetModel", model_id="m").model
    return found


def key(app: App, *scopes: str) -> str:
    """A key of the app that has these scopes."""
    of_app = resources_pb2.App(id=app.id, user_id=USER)
    request = service_pb2.PostKeysRequest(
        user_app_id=UserAppIDSet(user_id=USER),
        keys=[resources_pb2.Key(description="k", scopes=scopes, apps=[of_app])],
    )
    answer = app.stub.PostKeys(request, metadata=(("authorization", f"Key {PAT}"),))
    assert answer.status.code == 10000, answer
    return str(answer.keys[0].id)


@of_all
def test_tags_are_added_replaced_and_taken_away(app: App, rpc: str, sent: str, kept: str, path: str) -> None:
    app.call("PostModels", models=[Model(id="m", **{kept: ["a"]})])

    def patched(action: str, *tags: str) -> list[str]:
        answer = app.call(rpc, model_id="m", action=action, **{sent: tags})
        assert list(getattr(model(app), kept)) == list(getattr(answer, sent))
        return list(getattr(answer, sent))

    assert patched("merge", "b", "a", "c") == ["a", "b", "c"]
    assert patched("remove", "b", "nobody") == ["a", "c"]
    assert patched("overwrite", "z", "y", "z") == ["z", "y"]
    assert patched("overwrite") == []
    others = [name for _, _, name, _ in TAGS if name != kept]
    assert [list(getattr(model(app), name)) for name in others] == [[], [], []]


@of_all
def test_the_same_over_rest(app: App, rpc: str, sent: str, kept: str, path: str) -> None:
    app.call("PostModels", models=[Model(id="m")])
    before = model(app).modified_at.ToNanoseconds()

    answer = app.rest("PATCH", f"/models/m/{path}", {sent: ["a", "ü"], "action": "overwrite"})

    assert answer["status"]["code"] == 10000
    assert answer[sent] == ["a", "ü"]
    assert app.rest("GET", "/models/m")["model"][kept] == ["a", "ü"]
    assert model(app).modified_at.ToNanoseconds() > before


def test_models_are_posted_and_patched_with_all_four(app: App) -> None:
    four = {name: [name] for _, _, name, _ in TAGS}
    posted = app.call("PostModels", models=[Model(id="m", **four)]).model

    patched = app.call("PatchModels", action="merge", models=[Model(id="m", check_consents=["more"])]).models[0]
    less = app.call("PatchModels", action="remove", models=[Model(id="m", check_consents=["check_consents"])]).models[0]

    assert {name: list(getattr(posted, name)) for name in four} == four
    assert list(patched.check_consents) == ["check_consents", "more"]
    assert list(less.check_consents) == ["more"]
    assert list(app.call("ListModels").models[0].check_consents) == ["more"]


@of_all
def test_what_is_refused_changes_nothing(app: App, rpc: str, sent: str, kept: str, path: str) -> None:
    app.call("PostModels", models=[Model(id="m", **{kept: ["a"]})])

    def code(*tags: str, action: str = "merge", model_id: str = "m") -> int:
        return int(app.ask(rpc, model_id=model_id, action=action, **{sent: tags}).status.code)

    assert code("b", model_id="nobody") == UNKNOWN
    assert code("b", model_id="") == UNKNOWN
    assert code("b", model_id="general-image-recognition") == FORBIDDEN
    assert [code("b", action=action) for action in ("", "add")] == [INVALID_REQUEST] * 2
    assert [code(action=action) for action in ("merge", "remove")] == [INVALID] * 2
    assert [code(bad) for bad in ("", " ", "x" * (MAX_TAG_CHARACTERS + 1))] == [INVALID] * 3
    assert code("a\0b") == INVALID_REQUEST
    assert code(*map(str, range(MAX_TAGS))) == INVALID
    assert [code(*["b"] * (MAX_TAGS + 1), action=action) for action in ("remove", "overwrite")] == [INVALID] * 2
    assert list(getattr(model(app), kept)) == ["a"]


@of_all
def test_a_key_that_may_only_read_changes_nothing(app: App, rpc: str, sent: str, kept: str, path: str) -> None:
    app.call("PostModels", models=[Model(id="m", **{kept: ["a"]})])

    def status(*scopes: str) -> Any:
        return (
            App(server=app.server, stub=app.stub, id=app.id, key=key(app, *scopes))
            .ask(rpc, model_id="m", action="overwrite", **{sent: ["b"]})
            .status
        )

    refused = status("Apps_Get", "Models_Get")

    assert (refused.code, "Models_Add" in refused.details) == (SCOPES, True)
    assert list(getattr(model(app), kept)) == ["a"]
    assert status("Apps_Get", "Models_Get", "Models_Add").code == 10000
    assert list(getattr(model(app), kept)) == ["b"]


def test_tags_that_are_added_at_once_are_all_there(app: App) -> None:
    app.call("PostModels", models=[Model(id="m")])

    def add(number: int) -> int:
        rpc, sent, *_ = TAGS[number % 2]
        return int(app.ask(rpc, model_id="m", action="merge", **{sent: [f"t{number}"]}).status.code)

    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(add, range(24)))

    assert codes == [10000] * 24
    assert sorted([*model(app).toolkits, *model(app).use_cases]) == sorted(f"t{number}" for number in range(24))
