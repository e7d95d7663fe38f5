"""The API calls of the demo: the official Python client (gRPC), and the same search as plain JSON over HTTP."""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from clarifai_grpc.channel.clarifai_channel import ClarifaiChannel
from clarifai_grpc.grpc.api import resources_pb2, service_pb2, service_pb2_grpc
from clarifai_grpc.grpc.api.status import status_code_pb2

from tools.demo import DemoError
from tools.demo.server import DIRECT, HOST, Credentials

CALL_TIMEOUT_S = 60.0
PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Concept:
    """A concept of a rank, named by id or by name. Value 0 asks for what does not have it."""

    id: str = ""
    name: str = ""
    language: str = ""
    value: float = 1.0

    def fields(self) -> dict[str, str]:
        return {key: value for key in ("id", "name", "language") if (value := getattr(self, key))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One rank of a search: a concept, an image (URL or bytes), or an input that is already there."""

    concept: Concept | None = None
    url: str = ""
    image: bytes = b""
    input_id: str = ""

    def message(self) -> resources_pb2.Rank:
        """As a message of the official client."""
        if self.input_id:
            return resources_pb2.Rank(annotation=resources_pb2.Annotation(input_id=self.input_id))
        if self.concept:
            wanted = self.concept
            concept = resources_pb2.Concept(
                id=wanted.id, name=wanted.name, language=wanted.language, value=wanted.value
            )
            data = resources_pb2.Data(concepts=[concept])
        elif self.url:
            data = resources_pb2.Data(image=resources_pb2.Image(url=self.url))
        else:
            data = resources_pb2.Data(image=resources_pb2.Image(base64=self.image))
        return resources_pb2.Rank(annotation=resources_pb2.Annotation(data=data))

    def json(self) -> dict[str, Any]:
        """As a person would write it for cURL."""
        if self.input_id:
            return {"annotation": {"input_id": self.input_id}}
        data: dict[str, Any]
        if self.concept:
            data = {"concepts": [{**self.concept.fields(), "value": self.concept.value}]}
        elif self.url:
            data = {"image": {"url": self.url}}
        else:
            data = {"image": {"base64": base64.b64encode(self.image).decode()}}
        return {"annotation": {"data": data}}


@dataclass(frozen=True, slots=True)
class Hit:
    """An input and its score."""

    input_id: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An image to post."""

    id: str
    image: bytes


class GrpcClient:
    """The official Python client, used as its guide shows it."""

    def __init__(self, base: str, credentials: Credentials) -> None:
        host, _, port = base.rpartition(":")
        self._channel = ClarifaiChannel.get_insecure_grpc_channel(base=host, port=int(port))  # type: ignore[no-untyped-call]
        self._stub = service_pb2_grpc.V2Stub(self._channel)  # type: ignore[no-untyped-call]
        self._metadata = (("authorization", f"Key {credentials.pat}"),)
        self._app = resources_pb2.UserAppIDSet(user_id=credentials.user_id, app_id=credentials.app_id)

    def close(self) -> None:
        self._channel.close()

    def ensure_app(self) -> None:
        """Makes the app of the credentials where there is none yet."""
        ids = resources_pb2.UserAppIDSet(user_id=self._app.user_id)
        there = self._call("ListApps", service_pb2.ListAppsRequest(user_app_id=ids, per_page=PAGE)).apps
        if self._app.app_id not in {app.id for app in there}:
            new = resources_pb2.App(id=self._app.app_id)
            self._call("PostApps", service_pb2.PostAppsRequest(user_app_id=ids, apps=[new]))

    def input_states(self) -> dict[str, tuple[int, str]]:
        """Status code and details of every input of the app."""
        states: dict[str, tuple[int, str]] = {}
        page = 1
        while True:
            answer = self._call(
                "ListInputs", service_pb2.ListInputsRequest(user_app_id=self._app, page=page, per_page=PAGE)
            )
            for item in answer.inputs:
                states[item.id] = (item.status.code, item.status.details or item.status.description)
            if len(answer.inputs) < PAGE:
                return states
            page += 1

    def counts(self) -> resources_pb2.InputCount:
        answer = self._call("GetInputCount", service_pb2.GetInputCountRequest(user_app_id=self._app))
        counts: resources_pb2.InputCount = answer.counts
        return counts

    def post_images(self, uploads: Sequence[Upload]) -> None:
        """Posts up to 128 images in one call; raises DemoError when one is refused."""
        request = service_pb2.PostInputsRequest(
            user_app_id=self._app,
            inputs=[
                resources_pb2.Input(
                    id=upload.id, data=resources_pb2.Data(image=resources_pb2.Image(base64=upload.image))
                )
                for upload in uploads
            ],
        )
        self._call("PostInputs", request)

    def delete_inputs(self, ids: Iterable[str]) -> None:
        self._call("DeleteInputs", service_pb2.DeleteInputsRequest(user_app_id=self._app, ids=list(ids)))

    def labels(self, input_ids: Iterable[str]) -> set[tuple[str, str]]:
        """The (concept, input) pairs that people have asserted on these inputs."""
        request = service_pb2.ListAnnotationsRequest(
            user_app_id=self._app, input_ids=sorted(set(input_ids)), per_page=PAGE
        )
        answer = self._call("ListAnnotations", request)
        return {
            (concept.id, annotation.input_id)
            for annotation in answer.annotations
            for concept in annotation.data.concepts
            if concept.value == 1
        }

    def label(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Says of inputs that they show a concept: (concept, input) pairs. Unknown concepts are created."""
        annotations = [
            resources_pb2.Annotation(
                input_id=input_id,
                data=resources_pb2.Data(concepts=[resources_pb2.Concept(id=concept, value=1)]),
            )
            for concept, input_id in pairs
        ]
        self._call(
            "PostAnnotations", service_pb2.PostAnnotationsRequest(user_app_id=self._app, annotations=annotations)
        )

    def search(self, ranks: Sequence[Rank], *, per_page: int) -> tuple[list[Hit], float]:
        """The hits, best first, and the milliseconds the call took."""
        query = resources_pb2.Query(ranks=[rank.message() for rank in ranks])
        request = service_pb2.PostAnnotationsSearchesRequest(
            user_app_id=self._app,
            searches=[resources_pb2.Search(query=query)],
            pagination=service_pb2.Pagination(page=1, per_page=per_page),
        )
        begun = time.perf_counter()
        answer = self._call("PostAnnotationsSearches", request)
        took_ms = (time.perf_counter() - begun) * 1000
        return [Hit(hit.input.id, hit.score) for hit in answer.hits], took_ms

    def _call(self, rpc: str, request: Any) -> Any:
        try:
            answer = getattr(self._stub, rpc)(request, metadata=self._metadata, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            reason = error.details() if isinstance(error, grpc.Call) else error
            raise DemoError(f"{rpc} got no answer ({reason}). Look into the server's log.") from error
        if answer.status.code != status_code_pb2.SUCCESS:
            texts = [f"{answer.status.code} {answer.status.description} {answer.status.details}".strip()]
            for item in [*getattr(answer, "inputs", ()), *getattr(answer, "annotations", ())]:
                if item.status.details:
                    texts.append(f"{item.id}: {item.status.code} {item.status.details}")
            raise DemoError(f"{rpc} was refused: " + "\n  ".join(texts[:6]))
        return answer


class RestClient:
    """The same searches with nothing but HTTP and JSON. The app key alone names the app."""

    def __init__(self, base: str, credentials: Credentials) -> None:
        self._base = base
        self._authorization = f"Key {credentials.api_key}"

    def search(self, ranks: Sequence[Rank], *, per_page: int) -> list[Hit]:
        body = {
            "searches": [{"query": {"ranks": [rank.json() for rank in ranks]}}],
            "pagination": {"page": 1, "per_page": per_page},
        }
        answer = self._post("/v2/annotations/searches", body)
        return [Hit(hit["input"]["id"], float(hit["score"])) for hit in answer.get("hits", [])]

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self._base + path,
            data=json.dumps(body).encode(),
            headers={"Authorization": self._authorization, "Content-Type": "application/json"},
        )
        try:
            with DIRECT.open(request, timeout=CALL_TIMEOUT_S) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise DemoError(
                f"POST {path} answered {error.code}: {error.read().decode(errors='replace')[:500]}"
            ) from error
        except (OSError, ValueError) as error:
            raise DemoError(f"POST {path} got no answer: {error}. Look into the server's log.") from error
        if answer["status"]["code"] != status_code_pb2.SUCCESS:
            raise DemoError(f"POST {path} was refused: {answer['status']}")
        return dict(answer)


def local_address(port: int, name: str) -> str:
    return f"http://{HOST}:{port}/{name}"
