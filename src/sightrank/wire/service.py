"""The V2 service as its descriptor states it: every rpc with its message types and HTTP bindings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clarifai_grpc.grpc.api import service_pb2
from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpBinding:
    """One ``google.api.http`` rule: ``method`` in capitals, ``template`` such as ``/v2/inputs/{input_id}``."""

    method: str
    template: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """One rpc of the service. ``path`` is its gRPC method path; the streams say which side sends many messages."""

    name: str
    path: str
    request_type: type[Message]
    response_type: type[Message]
    request_stream: bool
    response_stream: bool
    bindings: tuple[HttpBinding, ...]

    @property
    def request_descriptor(self) -> Descriptor:
        return _descriptor(self.request_type)

    @property
    def response_descriptor(self) -> Descriptor:
        return _descriptor(self.response_type)


def read_service() -> Mapping[str, Rpc]:
    """Every rpc of the V2 service by name, in the order of the proto."""
    service = service_pb2.DESCRIPTOR.services_by_name["V2"]
    return {method.name: _read_rpc(method, service.full_name) for method in service.methods}


def _read_rpc(method: MethodDescriptor, service_name: str) -> Rpc:
    return Rpc(
        name=method.name,
        path=f"/{service_name}/{method.name}",
        request_type=GetMessageClass(method.input_type),
        response_type=GetMessageClass(method.output_type),
        request_stream=method.client_streaming,
        response_stream=method.server_streaming,
        bindings=_read_bindings(method),
    )


def _descriptor(message_type: Any) -> Descriptor:
    descriptor: Descriptor = message_type.DESCRIPTOR
    return descriptor


def _options(method: Any) -> Any:
    return method.GetOptions()


def _read_bindings(method: MethodDescriptor) -> tuple[HttpBinding, ...]:
    rule = _options(method).Extensions[annotations_pb2.http]
    rules = [rule, *rule.additional_bindings]
    verbs = [(each, each.WhichOneof("pattern")) for each in rules]
    return tuple(HttpBinding(method=verb.upper(), template=getattr(each, verb)) for each, verb in verbs)
