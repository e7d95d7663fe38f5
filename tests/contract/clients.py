"""The official Python client on each of its channels, and an application seen through it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from clarifai_grpc.channel.clarifai_channel import ClarifaiChannel
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.resources_pb2 import Annotation, Concept, Data, Filter, Image, Input, Rank
from clarifai_grpc.grpc.api.status import status_code_pb2
from tests.contract.pictures import Picture, PictureServer
from tests.contract.serving import HOST, Server
from tests.waiting import wait_for

#: grpc: plaintext on the gRPC port. h2c: plaintext on the HTTP port. tls: gRPC over TLS. json: REST by the client's own
#: translation. json-tls: the same over TLS.
Channel = Literal["grpc", "h2c", "tls", "json", "json-tls"]

DOG = "ai_8S2Vq3cR"  # the concept "dog" of clarifai/main

SUCCESS = status_code_pb2.SUCCESS
READY = status_code_pb2.INPUT_DOWNLOAD_SUCCESS
UNFINISHED = (status_code_pb2.INPUT_DOWNLOAD_PENDING, status_code_pb2.INPUT_DOWNLOAD_IN_PROGRESS)
INDEX_SECONDS = 120.0


@contextmanager
def connected(server: Server, channel: Channel) -> Iterator[service_pb2_grpc.V2Stub]:
    """A stub on that channel. The client keeps the kind of its latest channel in a global until a stub is made."""
    match channel:
        case "grpc" | "h2c":
            port = server.grpc_port if channel == "grpc" else server.http_port
            with ClarifaiChannel.get_insecure_grpc_channel(HOST, port=port) as open_channel:
                yield service_pb2_grpc.V2Stub(open_channel)
        case "tls":
            base = f"{HOST}:{server.tls_port}"
            with ClarifaiChannel.get_grpc_channel(base, root_certificates_path=str(server.ca)) as open_channel:
                yield service_pb2_grpc.V2Stub(open_channel)
        case "json" | "json-tls":
            json_channel = ClarifaiChannel.get_json_channel(server.base if channel == "json" else server.tls_base)
            with json_channel.session as session:
                session.trust_env = False
                session.verify = str(server.ca)
                yield service_pb2_grpc.V2Stub(json_channel)


def key(value: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Key {value}"),)


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One application through one stub. ``user_app_id`` is None for an app key, which knows its app."""

    stub: service_pb2_grpc.V2Stub
    metadata: tuple[tuple[str, str], ...]
    user_app_id: resources_pb2.UserAppIDSet | None

    def ask(self, rpc: str, **fields: Any) -> Any:
        """The answer of an rpc, whatever its status."""
        request = getattr(service_pb2, f"{rpc}Request")(user_app_id=self.user_app_id, **fields)
        return getattr(self.stub, rpc)(request, metadata=self.metadata)

    def call(self, rpc: str, **fields: Any) -> Any:
        """The answer of an rpc that must succeed."""
        answer = self.ask(rpc, **fields)
        assert answer.status.code == SUCCESS, f"{rpc}: {answer}"
        return answer

    def post(self, inputs: Sequence[Input]) -> list[str]:
        """Ids of new inputs, once all of them are indexed."""
        ids = [item.id for item in self.call("PostInputs", inputs=inputs).inputs]
        for input_id in ids:
            assert self.finished(input_id).status.code == READY
        return ids

    def finished(self, input_id: str) -> Input:
        """The input once it is indexed, or failed."""

        def look() -> Input | None:
            found = self.call("GetInput", input_id=input_id).input
            return None if found.status.code in UNFINISHED else found

        return wait_for(f"input {input_id} to be processed", look, seconds=INDEX_SECONDS)

    def rank(self, *ranks: Rank, **fields: Any) -> list[resources_pb2.Hit]:
        return self.search(resources_pb2.Query(ranks=ranks), **fields)

    def filter(self, *filters: Filter, **fields: Any) -> list[resources_pb2.Hit]:
        return self.search(resources_pb2.Query(filters=filters), **fields)

    def search(
        self,
        query: resources_pb2.Query,
        unit: Literal["Annotations", "Inputs"] = "Annotations",
        pagination: service_pb2.Pagination | None = None,
    ) -> list[resources_pb2.Hit]:
        searches = [resources_pb2.Search(query=query)]
        return list(self.call(f"Post{unit}Searches", searches=searches, pagination=pagination).hits)


def of_url(site: PictureServer, picture: Picture, **fields: Any) -> Input:
    data = {name: fields.pop(name) for name in ("concepts", "metadata", "geo") if name in fields}
    return Input(data=Data(image=Image(url=site.url(picture)), **data), **fields)


def of_bytes(picture: Picture, **fields: Any) -> Input:
    data = {name: fields.pop(name) for name in ("concepts", "metadata", "geo") if name in fields}
    return Input(data=Data(image=Image(base64=picture.data), **data), **fields)


def by_concept(**fields: Any) -> Rank:
    return Rank(annotation=Annotation(data=Data(concepts=[Concept(**fields)])))


def by_image(**fields: Any) -> Rank:
    return Rank(annotation=Annotation(data=Data(image=Image(**fields))))


def by_input(input_id: str) -> Rank:
    return Rank(annotation=Annotation(input_id=input_id))


def having(**fields: Any) -> Filter:
    return Filter(annotation=Annotation(data=Data(concepts=[Concept(**fields)])))


def input_ids(hits: Sequence[resources_pb2.Hit]) -> list[str]:
    return [hit.input.id for hit in hits]
