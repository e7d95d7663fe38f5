"""Clarifai's JSON rules (api-spec 1.2 to 1.4), in both directions."""

from __future__ import annotations

import base64
import contextlib
import json
import random
from typing import Any

import pytest
from clarifai_grpc.channel.custom_converters.custom_dict_to_message import dict_to_protobuf
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.status import status_code_pb2
from clarifai_grpc.grpc.api.utils import extensions_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from sightrank.errors import BadRequestFormat
from sightrank.wire.json_reader import JsonReader
from sightrank.wire.json_text import parse_object
from sightrank.wire.json_writer import JsonWriter, write_float
from sightrank.wire.query_forms import read_query
from sightrank.wire.service import read_service

RPCS = read_service()
TYPES = [rpc.request_descriptor for rpc in RPCS.values()] + [rpc.response_descriptor for rpc in RPCS.values()]
READER = JsonReader(TYPES)
WRITER = JsonWriter(TYPES)


def read(message: Message, text: str | bytes) -> Any:
    READER.fill(message, parse_object(text.encode() if isinstance(text, str) else text))
    return message


def read_input(text: str) -> resources_pb2.Input:
    request = read(service_pb2.PostInputsRequest(), '{"inputs": [' + text + "]}")
    return request.inputs[0]


def details(text: str | bytes) -> str:
    with pytest.raises(BadRequestFormat) as caught:
        read(service_pb2.PostInputsRequest(), text)
    return caught.value.details


# ---- reading ----


def test_unknown_fields_are_ignored() -> None:
    assert read_input('{"id": "a", "default_filter_id": {"x": [1]}, "closed_environment": true}').id == "a"


def test_snake_and_camel_case() -> None:
    both = '{"userAppId": {"userId": "u", "app_id": "a"}}'
    request = read(service_pb2.PostInputsRequest(), both)
    assert (request.user_app_id.user_id, request.user_app_id.app_id) == ("u", "a")


@pytest.mark.parametrize("code", ['"INPUT_SUCCESS"', '"INPUT_DOWNLOAD_SUCCESS"', "30000", '"30000"'])
def test_enums_by_any_name_or_number(code: str) -> None:
    assert read_input('{"status": {"code": ' + code + "}}").status.code == status_code_pb2.INPUT_SUCCESS


def test_null_is_absent() -> None:
    message = read_input('{"id": null, "data": null, "dataset_ids": null}')
    assert message == resources_pb2.Input()
    assert not message.HasField("data")


def test_numbers_as_texts_and_texts_as_flags() -> None:
    request = read(service_pb2.PostInputsSearchesRequest(), '{"pagination": {"page": "2", "per_page": 10.0}}')
    assert (request.pagination.page, request.pagination.per_page) == (2, 10)
    assert read_input('{"data": {"image": {"allow_duplicate_url": "True"}}}').data.image.allow_duplicate_url


@pytest.mark.parametrize(
    ("text", "nanos"),
    [("2024-05-01T12:00:00Z", 0), ("2024-05-01T12:00:00.123456789Z", 123456789), ("2024-05-01T14:00:00.5+02:00", 5e8)],
)
def test_timestamps(text: str, nanos: int) -> None:
    created = read_input('{"created_at": "' + text + '"}').created_at
    assert created.ToJsonString().startswith("2024-05-01T12:00:00")
    assert created.nanos == nanos


def test_metadata_is_a_plain_object() -> None:
    metadata = read_input('{"data": {"metadata": {"a": 1, "b": [true, null, "x"], "c": {}}}}').data.metadata
    assert metadata.fields["a"].number_value == 1
    assert metadata.fields["b"].list_value.values[1].WhichOneof("kind") == "null_value"
    assert metadata.fields["c"].WhichOneof("kind") == "struct_value"


def test_wrappers_are_bare_scalars() -> None:
    request = read(service_pb2.PatchAppRequest(), '{"app": {"is_template": false}}')
    assert request.app.HasField("is_template")
    assert not request.app.is_template.value


def wrapped(text: str) -> str:
    return "\\n".join(text[start : start + 3] for start in range(0, len(text), 3))


def unpadded(text: str) -> str:
    return text.rstrip("=")


def url_safe(text: str) -> str:
    return text.replace("+", "-").replace("/", "_")


@pytest.mark.parametrize("change", [str, unpadded, wrapped, url_safe])
def test_base64_in_every_form(change: Any) -> None:
    content = bytes(range(256)) * 2 + b"\xfb\xff\xfe"
    text = change(base64.b64encode(content).decode())
    assert read_input('{"data": {"image": {"base64": "' + text + '"}}}').data.image.base64 == content


def test_literal_newlines_in_texts() -> None:
    lines = base64.encodebytes(b"x" * 100).decode()
    assert "\n" in lines
    assert read_input('{"data": {"image": {"base64": "' + lines + '"}}}').data.image.base64 == b"x" * 100


@pytest.mark.parametrize(
    ("concept", "value"),
    [('{"id": "a"}', 1.0), ('{"id": "a", "value": null}', 1.0), ('{"value": 0}', 0.0), ('{"value": "0.5"}', 0.5)],
)
def test_an_absent_concept_value_is_one(concept: str, value: float) -> None:
    assert read_input('{"data": {"concepts": [' + concept + "]}}").data.concepts[0].value == value


def test_an_empty_object_is_there() -> None:
    message = read_input('{"data": {"geo": {"geo_point": {}}}}')
    assert message.data.geo.HasField("geo_point")


def test_nothing_is_an_empty_request() -> None:
    for body in (b"", b" \n", b"null", b"{}"):
        assert parse_object(body) == {}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"inputs": {"id": "a"}}', "`inputs` must be a list"),
        ('{"inputs": ["a"]}', "`inputs[0]` must be an object, not a text"),
        ('{"inputs": [{"id": 5}]}', "`inputs[0].id` must be a text, not a number"),
        ('{"inputs": [{}, {"data": {"concepts": [{"value": "much"}]}}]}', "`inputs[1].data.concepts[0].value`"),
        ('{"inputs": [{"data": {"concepts": [{"value": 1e39}]}}]}', "`inputs[0].data.concepts[0].value`"),
        ('{"inputs": [{"data": {"image": {"allow_duplicate_url": "maybe"}}}]}', "image.allow_duplicate_url`"),
        ('{"inputs": [{"data": {"image": {"base64": "@@"}}}]}', "`inputs[0].data.image.base64` is not base64"),
        ('{"inputs": [{"data": {"image": {"base64": "data:image/png;base64,AA=="}}}]}', "bare base64"),
        ('{"inputs": [{"status": {"code": "WELL"}}]}', "`inputs[0].status.code` is `WELL`"),
        ('{"inputs": [{"created_at": "yesterday"}]}', "`inputs[0].created_at` is `yesterday`"),
        ('{"inputs": [{"data": {"metadata": [1]}}]}', "`inputs[0].data.metadata` must be an object"),
        ('{"inputs": [{"id": "\\ud800"}]}', "`inputs[0].id` holds half a character"),
        ('{"inputs": [{"data": {"frames": [{"frame_info": {"index": -1}}]}}]}', "frame_info.index`"),
        ('{"inputs": [{"dataset_ids": ["a", 1]}]}', "`inputs[0].dataset_ids[1]`"),
    ],
)
def test_a_wrong_type_names_the_field(text: str, field: str) -> None:
    assert field in details(text)


def test_only_one_of_a_oneof() -> None:
    with pytest.raises(BadRequestFormat, match="`sort_by_name` excludes `sort_by_created_at`"):
        read(service_pb2.ListAppsRequest(), '{"sort_by_created_at": true, "sort_by_name": true}')


@pytest.mark.parametrize(
    ("body", "told"),
    [
        # What the guide's cURL example for image bytes sends once the shell has run: base64 without its quotes.
        (
            '{"inputs": [\n{"data": {"image": {"base64": /9j/4AAQSkZJRg\n"}}}]}',
            "line 2, column 31: a value is expected",
        ),
        ('{"inputs": [\n{"data": {"image": {"base64": /9j/4AAQSkZJRg\n"}}}]}', "must stand in double quotes"),
        ("{'inputs': []}", "line 1, column 2"),
        ('{"inputs": [],}', "comma"),
        ('{"inputs": []} x', "more follows: `x`"),
        ('{"inputs": "abc', "never closed"),
        ('{"inputs": [', "the end of the body"),
        ("inputs=1", "a JSON object {…} is expected"),
        ("[1]", "not a list"),
        ("7", "not a number"),
        (b"\xff\xd8\xff\xe0 a picture", "not UTF-8"),
        ("[" * 200_000, "too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "not readable as JSON"),
    ],
)
def test_broken_json_says_where_and_what(body: str | bytes, told: str) -> None:
    assert told in details(body)


def test_deep_metadata_is_refused_before_it_can_be_stored() -> None:
    assert "nested deeper" in details('{"inputs":[{"data":{"metadata":' + '{"a":' * 60 + "1" + "}" * 60 + "}}]}")


# ---- queries ----


def query(message: Message, text: str) -> Any:
    READER.fill(message, read_query(message.DESCRIPTOR, text))
    return message


def test_query_of_the_python_client() -> None:
    request = query(
        service_pb2.ListAnnotationsRequest(),
        "user_app_id.user_id=me&user_app_id.app_id=a&input_ids=x&input_ids=y&list_all_annotations=True&page=3&per_page="
        "&statuses=%7B%27code%27%3A+%27ANNOTATION_SUCCESS%27%7D&nonsense=1&worker.x.y=2",
    )
    assert (request.user_app_id.user_id, request.user_app_id.app_id) == ("me", "a")
    assert list(request.input_ids) == ["x", "y"]
    assert request.list_all_annotations
    assert (request.page, request.per_page) == (3, 0)
    assert [status.code for status in request.statuses] == [status_code_pb2.ANNOTATION_SUCCESS]


def test_query_names_in_camel_case_and_flags_as_one() -> None:
    request = query(service_pb2.ListAnnotationsRequest(), "userAppId.appId=a&listAllAnnotations=1&perPage=7")
    assert (request.user_app_id.app_id, request.list_all_annotations, request.per_page) == ("a", True, 7)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("statuses=24151", "`statuses[0]` must be an object, not a text"),
        ("statuses={'code': 24151}&statuses=junk", "`statuses[1]` must be an object, not a text"),
        ("statuses={1,", "`statuses[0]` must be an object, not a text"),
        ("statuses=" + "[" * 4000, "`statuses[0]` must be an object, not a text"),
        ("statuses.code=24151", "`statuses` must be a list, not an object"),
        ("user_app_id=7", "`user_app_id` must be an object, not a text"),
        ("userAppId=7&user_app_id.app_id=a", "`user_app_id` must be an object, not a text"),
    ],
)
def test_what_is_no_message_is_refused_in_a_query(text: str, problem: str) -> None:
    with pytest.raises(BadRequestFormat) as error:
        query(service_pb2.ListAnnotationsRequest(), text)
    assert problem in error.value.details


@pytest.mark.parametrize("text", ["statuses=", "user_app_id=", "page.x=1", "nonsense=1", "statuses=[]"])
def test_what_says_nothing_in_a_query_is_ignored(text: str) -> None:
    assert query(service_pb2.ListAnnotationsRequest(), text) == service_pb2.ListAnnotationsRequest()


@pytest.mark.parametrize(
    ("name", "closest"),
    [
        ("PENDING", "ANNOTATION_PENDING"),
        ("annotation_pending", "ANNOTATION_PENDING"),
        ("ANNOTATION_SUCESS", "ANNOTATION_SUCCESS"),
        ("INPUT_DOWNLOAD_SUCESS", "INPUT_DOWNLOAD_SUCCESS"),
    ],
)
def test_an_unknown_name_of_an_enum_is_told_the_closest(name: str, closest: str) -> None:
    with pytest.raises(BadRequestFormat) as error:
        read(service_pb2.ListInputsRequest(), json.dumps({"status": {"code": name}}))
    assert f"`status.code` is `{name}`, which is none of its names; the closest: " in error.value.details
    assert closest in error.value.details
    assert len(error.value.details) < 300


def test_a_name_of_an_enum_that_nothing_is_like_shows_what_names_look_like() -> None:
    with pytest.raises(BadRequestFormat, match=r"none of its names, such as ZERO, SUCCESS, MIXED_STATUS"):
        read(service_pb2.ListInputsRequest(), json.dumps({"status": {"code": "xyzzy"}}))


def test_a_wrong_query_value_names_the_field() -> None:
    with pytest.raises(BadRequestFormat, match="`page` must be a whole number"):
        query(service_pb2.ListAnnotationsRequest(), "page=two")


# ---- writing ----


def written(message: Message) -> Any:
    return json.loads(WRITER.text(message))


def test_the_shape_of_an_answer() -> None:
    response = service_pb2.MultiInputResponse()
    response.status.code = status_code_pb2.SUCCESS
    made = response.inputs.add(id="a")
    made.created_at.FromJsonString("2024-05-01T12:00:00.5Z")
    made.data.image.base64 = b"\xfb\xff"
    made.data.metadata.SetInParent()
    made.data.concepts.add(id="c", value=0)
    assert written(response) == {
        "status": {"code": 10000},
        "inputs": [
            {
                "id": "a",
                "created_at": "2024-05-01T12:00:00.500Z",
                "data": {"image": {"base64": "+/8="}, "metadata": {}, "concepts": [{"id": "c", "value": 0.0}]},
            }
        ],
    }


def test_marked_fields_are_always_there() -> None:
    for rpc in RPCS.values():
        shown = written(rpc.response_type())
        for field in rpc.response_descriptor.fields:
            marked = field.GetOptions().Extensions[extensions_pb2.cl_show_if_empty] and not field.has_presence
            assert (field.name in shown) == bool(marked), f"{rpc.name}.{field.name}"


def test_an_empty_page_is_status_alone_for_the_python_client() -> None:
    response = service_pb2.MultiInputResponse()
    response.status.code = status_code_pb2.SUCCESS
    arrived = dict_to_protobuf(service_pb2.MultiInputResponse, written(response))
    assert [field.name for field, _ in arrived.ListFields()] == ["status"]


def test_integers_of_64_bits_are_numbers() -> None:
    response = service_pb2.SingleInputCountResponse()
    response.counts.processed = 7
    assert written(response)["counts"]["processed"] == 7


@pytest.mark.parametrize("value", [0.1, 0.87, 1.0, 1e-30, 3.4028234663852886e38, 0.30000001192092896, -2.5])
def test_floats_print_short_and_read_back_equal(value: float) -> None:
    stored = resources_pb2.Concept(value=value).value
    short = write_float(stored)
    assert resources_pb2.Concept(value=short).value == stored
    assert len(repr(short)) <= 14


def test_numbers_json_has_no_sign_for() -> None:
    assert [write_float(value) for value in (float("nan"), float("inf"), float("-inf"))] == [
        "NaN",
        "Infinity",
        "-Infinity",
    ]


def test_metadata_prints_as_it_was_sent() -> None:
    sent = {"a": 1, "b": [True, None, "x", 1.5], "c": {}, "d": {"e": []}}
    response = service_pb2.SingleInputResponse()
    READER.fill(response, {"input": {"data": {"metadata": sent}}})
    assert written(response)["input"]["data"]["metadata"] == sent
    response.input.data.metadata.fields["f"].SetInParent()
    assert written(response)["input"]["data"]["metadata"]["f"] == {}


# ---- both ----


def random_value(field: FieldDescriptor, source: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_ENUM:
        return source.choice(field.enum_type.values).number
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return source.uniform(-10, 10)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return source.random() < 0.5
    if field.type == FieldDescriptor.TYPE_BYTES:
        return source.randbytes(5)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return source.choice(["", "a", "犬", 'q"\n'])
    return source.randrange(0, 1000)


def fill_randomly(message: Any, source: random.Random, depth: int) -> None:
    descriptor: Descriptor = message.DESCRIPTOR
    if descriptor.full_name == "google.protobuf.Struct":
        message.update({"a": 1.5, "b": ["x", True], "c": {"d": None}})
    elif descriptor.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        message.seconds, message.nanos = source.randrange(10**9), source.randrange(10**9)
    else:
        for field in descriptor.fields:
            if source.random() < 0.4:
                set_randomly(message, field, source, depth)


def set_randomly(message: Any, field: FieldDescriptor, source: random.Random, depth: int) -> None:
    if field.message_type is None:
        if field.is_repeated:
            getattr(message, field.name).extend(random_value(field, source) for _ in range(2))
        else:
            setattr(message, field.name, random_value(field, source))
        return
    if depth == 0:
        return
    target = getattr(message, field.name)
    if field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        if value.message_type is None:
            target["k"] = random_value(value, source)
        else:
            fill_randomly(target["k"], source, depth - 1)
    elif field.is_repeated:
        fill_randomly(target.add(), source, depth - 1)
    else:
        target.SetInParent()
        fill_randomly(target, source, depth - 1)


@pytest.mark.parametrize("seed", range(3))
def test_every_message_survives_the_way_out_and_in(seed: int) -> None:
    source = random.Random(seed)
    for descriptor in {each.full_name: each for each in TYPES}.values():
        message = GetMessageClass(descriptor)()
        fill_randomly(message, source, 4)
        again = read(GetMessageClass(descriptor)(), WRITER.text(message))
        assert again == message, descriptor.full_name


NAMES = sorted({field.name for descriptor in TYPES for field in descriptor.fields})[::7]
SEARCH_NAMES = [
    "searches",
    "query",
    "ranks",
    "filters",
    "annotation",
    "data",
    "concepts",
    "image",
    "base64",
    "value",
    "geo",
    "metadata",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(SEARCH_NAMES + NAMES), inner, max_size=4)
    ),
    max_leaves=30,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["searches", "user_app_id", "pagination"]), JSON, max_size=3))
def test_any_json_is_read_or_refused(value: dict[str, Any]) -> None:
    request = service_pb2.PostAnnotationsSearchesRequest()
    with contextlib.suppress(BadRequestFormat):
        READER.fill(request, value)
    assert isinstance(json.loads(WRITER.text(request)), dict)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(BadRequestFormat):
        assert isinstance(parse_object(body), dict)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_query_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadRequestFormat):
        for asked in (text, "statuses=" + text):
            read = query(service_pb2.ListAnnotationsRequest(), asked)
            assert service_pb2.ListAnnotationsRequest.FromString(read.SerializeToString()) == read
