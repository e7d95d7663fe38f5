"""Ids that an input may not have, and an answer about an input that is gone again."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from clarifai_grpc.grpc.api import resources_pb2, service_pb2

from sightrank.api import inputs
from sightrank.api.call import AppRef, Call
from sightrank.api.hosted_access import HostedAccess
from sightrank.api.records import Records
from sightrank.ingest.intake import Intake
from sightrank.ingest.removal import Removal
from sightrank.store.database import Database
from sightrank.wire.service import read_service


def test_no_input_id_is_a_path_of_the_api() -> None:
    templates = [binding.template for rpc in read_service().values() for binding in rpc.bindings]
    after = [template.removeprefix("/v2/inputs/").split("/")[0] for template in templates if "/v2/inputs/" in template]

    assert {name for name in after if not name.startswith("{")} == inputs._PATHS


class Nothing:
    """A database, records and an intake of an app whose inputs are deleted as soon as they are accepted."""

    async def rows(self, statement: Any, parameters: Any) -> list[Any]:
        return []

    async def inputs(self, app: AppRef, rows: Any) -> list[Any]:
        return []

    async def added(self, call: Any, item: Any) -> Any:
        return item

    async def accept(self, bucket: int, user_id: str, items: list[Any], conflict: Any, job: Any) -> list[str]:
        return [item.id for item in items]


def test_an_input_deleted_before_the_answer_is_still_said_to_be_accepted() -> None:
    async def scenario() -> service_pb2.MultiInputResponse:
        nothing = Nothing()
        part = inputs.Inputs(
            cast(Database, nothing),
            cast(Intake, nothing),
            cast(Removal, nothing),
            cast(Records, nothing),
            cast(HostedAccess, nothing),
            asyncio.Event(),
            max_image_bytes=10,
        )
        image = resources_pb2.Data(image=resources_pb2.Image(base64=b"x"))
        request = service_pb2.PostInputsRequest(inputs=[resources_pb2.Input(id="a", data=image)])
        return await part.post(cast(Call, Asked()), request)

    (item,) = asyncio.run(scenario()).inputs

    assert (item.id, item.status.code, item.status.description) == ("a", 30001, "Download pending")


class Asked:
    """A call by the owner of an app."""

    bucket, user_id = 1, "admin"

    def require_app(self) -> Asked:
        return self

    def require_caller(self) -> Asked:
        return self
