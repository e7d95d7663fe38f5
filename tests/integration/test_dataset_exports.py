"""Versions of datasets are exported: asked for by the API, downloaded by URLs that need no key (api-spec 3.2)."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from clarifai_grpc.grpc.api import resources_pb2, service_pb2
from clarifai_grpc.grpc.api.resources_pb2 import (
    Annotation,
    AnnotationFilter,
    AnnotationFilterConfig,
    BoundingBox,
    Concept,
    Data,
    Dataset,
    Filter,
    Input,
    Query,
    Region,
    RegionInfo,
    Search,
    UserAppIDSet,
    Visibility,
)
from clarifai_grpc.grpc.api.service_pb2_grpc import V2Stub
from clarifai_grpc.grpc.api.status.status_pb2 import Status
from google.protobuf.struct_pb2 import Struct
from tests.integration.exporting import (
    COCO,
    EXPORTED,
    EXPORTING,
    FAILED,
    JSON,
    PROTOBUF,
    QUEUED,
    ask,
    contents,
    download,
    exported,
    frozen,
    read,
    said,
    unpacked,
    unpacked_json,
)
from tests.integration.serving import PAT, SUCCESS, USER, App, Server, new_app, of_bytes, picture
from tests.integration.test_dataset_inputs import has, named, note
from tests.integration.test_datasets import key_of_another_user
from tests.waiting import wait_for

SCOPES, NOTHING, INVALID_REQUEST = 11007, 11101, 11102


@pytest.fixture
def notes(app: App) -> App:
    """Inputs i0 to i2 in the dataset ``d``, the even ones labelled ``even``, and i3 beside it."""
    app.call("PostDatasets", datasets=[Dataset(id="d")])
    app.indexed(*(note(f"i{n}", has("even", 1.0 - n % 2), datasets=["d"]) for n in range(3)), note("i3"))
    return app


def struct(**fields: object) -> Struct:
    made = Struct()
    made.update(fields)
    return made


def region(name: str, top: float, *concepts: Concept) -> Data:
    box = BoundingBox(top_row=top, left_col=0.1, bottom_row=0.9, right_col=0.9)
    return Data(regions=[Region(id=name, region_info=RegionInfo(bounding_box=box), data=Data(concepts=concepts))])


def files(server: Server, app: App) -> list[Path]:
    """What the app has in the blob store."""
    ((bucket,),) = server.sql("SELECT first_bucket FROM apps WHERE id = %s", app.id)
    return [path for path in (server.data_dir / "blobs" / str(bucket)).rglob("*") if path.is_file()]


# What is in it ------------------------------------------------------------------------------------------------------


def test_an_archive_has_inputs_with_all_that_people_said_of_them(app: App) -> None:
    app.call("PostDatasets", datasets=[Dataset(id="d")])
    geo = resources_pb2.Geo(geo_point=resources_pb2.GeoPoint(longitude=10.5, latitude=-3.25))
    photo = of_bytes(
        picture(1), "photo", concepts=[has("dog"), has("cat", 0.0)], metadata=struct(shelf=7, tags=["a"]), geo=geo
    )
    photo.dataset_ids.append("d")
    app.indexed(photo, note("text", datasets=["d"]))
    app.annotate(
        Annotation(input_id="photo", data=Data(concepts=[has("dog", 0.0), has("park")])),
        Annotation(input_id="photo", data=region("left", 0.2, has("nose"))),
        Annotation(input_id="photo", data=Data(regions=[Region(id="left", data=Data(concepts=[has("wet")]))])),
        Annotation(input_id="photo", data=region("right", 0.0, has("tail", 0.0))),
    )

    first, second = contents(app, frozen(app))

    assert [field.name for field, _ in first.ListFields()] == ["id", "data"]
    assert (first.id, second.id) == ("photo", "text")
    hosted = first.data.image.hosted
    assert download(f"{hosted.prefix}/orig/{hosted.suffix}", Authorization=f"Key {PAT}").content == picture(1)
    assert first.data.image.url == f"{hosted.prefix}/orig/{hosted.suffix}"
    assert said(first.data.concepts) == {"dog": 0.0, "cat": 0.0, "park": 1.0}
    assert (first.data.metadata["shelf"], list(first.data.metadata["tags"])) == (7, ["a"])
    assert (first.data.geo.geo_point.longitude, first.data.geo.geo_point.latitude) == (10.5, -3.25)
    boxes = {part.id: round(part.region_info.bounding_box.top_row, 4) for part in first.data.regions}
    assert boxes == {"left": 0.2, "right": 0.0}
    assert {part.id: said(part.data.concepts) for part in first.data.regions} == {
        "left": {"nose": 1.0, "wet": 1.0},
        "right": {"tail": 0.0},
    }
    assert (second.data.text.raw, len(second.data.concepts), second.data.HasField("metadata")) == ("text", 0, False)


def test_an_archive_tells_what_was_so_when_its_version_was_made(notes: App) -> None:
    (added,) = notes.annotate(Annotation(input_id="i0", data=Data(concepts=[has("early")])))
    version_id = frozen(notes)
    notes.call("DeleteAnnotations", input_ids=["i0"], ids=[added.id])
    notes.annotate(Annotation(input_id="i1", data=Data(concepts=[has("late")])))
    later = Input(id="i2", data=Data(concepts=[has("even", 0.0)], metadata=struct(late=True)))
    notes.call("PatchInputs", action="overwrite", inputs=[later])
    notes.call("PostDatasetInputs", dataset_id="d", dataset_inputs=named("i3"))
    notes.call("DeleteDatasetInputs", dataset_id="d", input_ids=["i1"])

    before, now = contents(notes, version_id), contents(notes, frozen(notes))

    assert {item.id: said(item.data.concepts) for item in before} == {
        "i0": {"even": 1.0, "early": 1.0},
        "i1": {"even": 0.0},
        "i2": {"even": 1.0},
    }
    assert not any(item.data.HasField("metadata") for item in before)
    assert {item.id: said(item.data.concepts) for item in now} == {"i0": {"even": 1.0}, "i2": {"even": 0.0}, "i3": {}}
    assert now[1].data.metadata["late"] is True


def test_predictions_are_not_exported(app: App) -> None:
    app.call("PostDatasets", datasets=[Dataset(id="d")])
    photo = of_bytes(picture(2), "photo")
    photo.dataset_ids.append("d")
    app.indexed(photo)
    assert any(item.model_version_id for item in app.annotations(input_ids=["photo"], list_all_annotations=True))

    (item,) = contents(app, frozen(app))

    assert (len(item.data.concepts), len(item.data.regions)) == (0, 0)


def test_only_what_counts_is_exported(notes: App) -> None:
    """Annotations that still wait, and those that the filter of the version leaves out, do not; the input's own
    metadata are no annotation."""
    notes.call("PatchInputs", action="merge", inputs=[Input(id="i0", data=Data(metadata=struct(shelf=1)))])
    waiting = Annotation(input_id="i1", data=Data(concepts=[has("waiting")]), status=Status(code=24151))
    notes.annotate(waiting, Annotation(input_id="i0", data=Data(concepts=[has("chosen")])))
    chosen = Filter(annotation=Annotation(data=Data(concepts=[has("chosen")])))
    search = Search(query=Query(filters=[chosen]))
    notes.call("PostAnnotationFilters", annotation_filters=[AnnotationFilter(id="f", search=search)])
    config = AnnotationFilterConfig(annotation_filter=AnnotationFilter(id="f"), ignore_empty_inputs=True)

    everything = contents(notes, frozen(notes))
    filtered = contents(notes, frozen(notes, annotation_filter_config=config))

    assert {item.id: said(item.data.concepts) for item in everything} == {
        "i0": {"even": 1.0, "chosen": 1.0},
        "i1": {"even": 0.0},
        "i2": {"even": 1.0},
    }
    assert {item.id: said(item.data.concepts) for item in filtered} == {"i0": {"chosen": 1.0}}
    assert filtered[0].data.metadata["shelf"] == 1


def test_an_empty_dataset_is_an_archive_without_inputs(app: App) -> None:
    app.call("PostDatasets", datasets=[Dataset(id="d")])
    assert contents(app, frozen(app)) == []


def test_json_over_rest(notes: App) -> None:
    version_id = frozen(notes)
    path = f"/datasets/d/versions/{version_id}"

    def put() -> object:
        answer = notes.rest("PUT", f"{path}/exports", {"exports": [{"format": JSON}]})
        assert answer["status"]["code"] == SUCCESS
        (export,) = answer["exports"]
        return export if export["status"]["code"] == EXPORTED else None

    export = wait_for("the export", put)
    found = notes.rest("GET", path)["dataset_version"]["export_info"]

    assert found == {"clarifai_data_json": export}
    answer = download(export["url"])  # type: ignore[index]
    assert {"url", "size", "format", "status"} == set(export)  # type: ignore[call-overload]
    assert export["size"] == len(answer.content)  # type: ignore[index]
    assert unpacked_json(answer.content)[0] == {
        "id": "i0",
        "data": {
            "text": {"raw": "i0"},
            "concepts": [{"id": "even", "name": "even", "value": 1, "app_id": notes.id}],
        },
    }


# Asking for it --------------------------------------------------------------------------------------------------------


def test_an_export_is_made_once_and_told_wherever_its_version_is(notes: App) -> None:
    version_id = frozen(notes)
    assert not read(notes, version_id).HasField("export_info")

    first = ask(notes, version_id, JSON, PROTOBUF)
    assert (first.status.code, [item.format for item in first.exports]) == (SUCCESS, [JSON, PROTOBUF])
    assert all(item.status.code in (QUEUED, EXPORTING, EXPORTED) for item in first.exports)
    made = exported(notes, version_id), exported(notes, version_id, JSON)
    size = len(files(notes.server, notes))

    again = ask(notes, version_id, PROTOBUF, JSON)

    assert tuple(again.exports) == made
    assert [item.status.percent_completed for item in made] == [100, 100]
    info = read(notes, version_id).export_info
    assert (info.clarifai_data_protobuf, info.clarifai_data_json) == made
    assert not info.HasField("coco")
    (listed,) = notes.call("ListDatasetVersions", dataset_id="d").dataset_versions
    assert listed.export_info == info
    assert len(files(notes.server, notes)) == size == 2
    assert unpacked(download(made[0].url).content)[0].id == "i0"


def test_whoever_asks_at_once_gets_the_same_export(notes: App) -> None:
    version_id = frozen(notes)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: ask(notes, version_id, PROTOBUF, JSON), range(8)))

    assert {answer.status.code for answer in answers} == {SUCCESS}
    statement = "SELECT count(*), count(DISTINCT format) FROM dataset_exports WHERE version_id = %s"
    assert notes.server.sql(statement, version_id) == [(2, 2)]
    exported(notes, version_id)
    exported(notes, version_id, JSON)
    assert len(files(notes.server, notes)) == 2


def test_a_failure_is_told_once_and_then_tried_again(notes: App) -> None:
    """The SDK asks until it hears how it ended: it must hear of a failure, and may ask anew after it."""
    version_id = frozen(notes)
    exported(notes, version_id)
    failed = "UPDATE dataset_exports SET status = 64202, status_details = 'no' WHERE version_id = %s RETURNING 1"
    notes.server.sql(failed, version_id)

    in_info = read(notes, version_id).export_info.clarifai_data_protobuf
    (told,) = ask(notes, version_id, PROTOBUF).exports

    assert told == in_info
    assert (told.status.code, told.status.details, told.url) == (FAILED, "no", "")
    assert unpacked(download(exported(notes, version_id).url).content)[0].id == "i0"


@pytest.mark.parametrize(
    ("formats", "told"),
    [
        ([], "exports is empty"),
        ([COCO], "exports[0].format is 2"),
        ([PROTOBUF, 0], "exports[1].format is 0"),
        ([77], "exports[0].format is 77"),
    ],
)
def test_formats_that_are_not_made_are_refused(notes: App, formats: list[int], told: str) -> None:
    version_id = frozen(notes)
    answer = ask(notes, version_id, *formats)
    assert answer.status.code == INVALID_REQUEST
    assert told in answer.status.details
    assert not read(notes, version_id).HasField("export_info")


def test_vectors_are_not_exported(notes: App) -> None:
    wanted = resources_pb2.DatasetVersionExport(format=resources_pb2.CLARIFAI_DATA_PROTOBUF, include_embeddings=True)
    answer = notes.ask("PutDatasetVersionExports", dataset_id="d", dataset_version_id=frozen(notes), exports=[wanted])
    assert answer.status.code == INVALID_REQUEST
    assert "include_embeddings" in answer.status.details


@pytest.mark.parametrize(("dataset_id", "version_id"), [("d", "nobody"), ("d", "a\0b"), ("d", ""), ("nobody", "v")])
def test_what_does_not_exist_is_not_exported(notes: App, dataset_id: str, version_id: str) -> None:
    frozen(notes, id="v")
    assert ask(notes, version_id, PROTOBUF, dataset_id=dataset_id).status.code == NOTHING


def test_the_queue_is_bounded(notes: App) -> None:
    version_id, other = frozen(notes), frozen(notes)
    waiting = (
        "INSERT INTO dataset_exports (bucket, id, dataset_id, version_id, format, secret, status, lease_until)"
        " SELECT bucket, 'w' || n, dataset_id, id, n, '', 64201, now() + interval '1 day'"
        " FROM dataset_versions, generate_series(1, 128) n WHERE id = %s RETURNING 1"
    )
    notes.server.sql(waiting, other)

    answer = ask(notes, version_id, PROTOBUF)

    assert answer.status.code == 40031
    assert "128 exports" in answer.status.details
    assert not read(notes, version_id).HasField("export_info")


# Downloading it -------------------------------------------------------------------------------------------------------


def test_a_download_has_its_length_and_comes_in_parts(notes: App) -> None:
    export = exported(notes, frozen(notes, id="v7"))

    whole = download(export.url)
    parts = [download(export.url, Range=asked) for asked in ("bytes=0-99", "bytes=100-")]

    assert (whole.status_code, whole.headers["content-type"]) == (200, "application/zip")
    assert int(whole.headers["content-length"]) == len(whole.content) == export.size
    assert export.url.endswith("/d-v7.zip")
    assert [part.status_code for part in parts] == [206, 206]
    assert b"".join(part.content for part in parts) == whole.content
    with_key = download(export.url, Authorization=f"Key {notes.key}")
    assert with_key.content == whole.content


def signed(notes: App, url: str, expires: int) -> str:
    """The URL as the server would have signed it to be good until then."""
    head, tail = url.split("/exports/datasets/")
    bucket, export_id, _, _, name = tail.split("/")
    ((secret,),) = notes.server.sql("SELECT secret FROM dataset_exports WHERE id = %s", export_id)
    signature = hmac.new(secret.encode(), str(expires).encode(), hashlib.sha256).hexdigest()
    return f"{head}/exports/datasets/{bucket}/{export_id}/{expires}/{signature}/{name}"


def test_only_the_signed_url_opens_a_file_and_not_for_ever(notes: App) -> None:
    export = exported(notes, frozen(notes))
    *head, bucket, export_id, expires, signature, name = export.url.split("/")
    now = int(time.time())
    base = "/".join(head)
    wrong = {
        "later": f"{base}/{bucket}/{export_id}/{int(expires) + 1}/{signature}/{name}",
        "unsigned": f"{base}/{bucket}/{export_id}/{expires}/{'0' * 64}/{name}",
        "not ascii": f"{base}/{bucket}/{export_id}/{expires}/%C3%A9/{name}",
        "other": f"{base}/{bucket}/nobody/{expires}/{signature}/{name}",
        "elsewhere": f"{base}/{int(bucket) + 1}/{export_id}/{expires}/{signature}/{name}",
        "no bucket": f"{base}/{2**70}/{export_id}/{expires}/{signature}/{name}",
        "zero": f"{base}/{bucket}/a%00b/{expires}/{signature}/{name}",
        "expired": signed(notes, export.url, now - 1),
    }

    answers = {what: download(url, Authorization=f"Key {PAT}") for what, url in wrong.items()}

    assert now + 86_400 <= int(expires) <= now + 2 * 86_400 + 60
    assert download(signed(notes, export.url, now + 60)).status_code == 200
    assert {what: answer.json()["status"]["code"] for what, answer in answers.items()} == dict.fromkeys(wrong, NOTHING)
    assert {answer.status_code for answer in answers.values()} == {404}


def key_with(app: App, *scopes: str) -> App:
    """The same app by a new key."""
    of_app = resources_pb2.App(id=app.id, user_id=USER)
    request = service_pb2.PostKeysRequest(
        user_app_id=UserAppIDSet(user_id=USER), keys=[resources_pb2.Key(scopes=scopes, apps=[of_app])]
    )
    answer = app.stub.PostKeys(request, metadata=(("authorization", f"Key {PAT}"),))
    assert answer.status.code == SUCCESS, answer
    return App(server=app.server, stub=app.stub, id=app.id, key=str(answer.keys[0].id))


def test_who_may_not_change_datasets_cannot_have_them_exported(notes: App) -> None:
    version_id = frozen(notes)
    reading = key_with(notes, "Apps_Get", "Datasets_Get")
    writing = key_with(notes, "Apps_Get", "Datasets_Get", "Datasets_Add")

    assert ask(reading, version_id, PROTOBUF).status.code == SCOPES
    assert not read(notes, version_id).HasField("export_info")
    assert ask(writing, version_id, PROTOBUF).status.code == SUCCESS


def test_who_reads_public_datasets_of_another_user_sees_no_urls(notes: App, server: Server) -> None:
    public = Visibility(gettable=Visibility.Gettable.PUBLIC)
    notes.call("PatchDatasets", action="merge", datasets=[Dataset(id="d", visibility=public)])
    version_id = frozen(notes, visibility=public)
    exported(notes, version_id)
    notes.call("PatchApp", action="overwrite", app={"id": notes.id, "visibility": {"gettable": 50}})
    stranger = App(server=server, stub=notes.stub, id=notes.id, key=key_of_another_user(server))

    found = read(stranger, version_id)

    assert (found.id, found.HasField("export_info")) == (version_id, False)
    assert read(notes, version_id).export_info.clarifai_data_protobuf.url
    assert ask(stranger, version_id, PROTOBUF).status.code == SCOPES


# What becomes of it ---------------------------------------------------------------------------------------------------


def delete_version(app: App) -> None:
    app.call("DeleteDatasetVersions", dataset_id="d", dataset_version_ids=["v"])


def delete_dataset(app: App) -> None:
    app.call("DeleteDatasets", dataset_ids=["d"])


def delete_app(app: App) -> None:
    request = service_pb2.DeleteAppRequest(user_app_id=app.ids)
    assert app.stub.DeleteApp(request, metadata=(("authorization", f"Key {PAT}"),)).status.code == SUCCESS


@pytest.mark.parametrize("delete", [delete_version, delete_dataset, delete_app])
def test_a_file_goes_with_what_it_is_of(notes: App, delete: Callable[[App], None]) -> None:
    export = exported(notes, frozen(notes, id="v"))
    (file,) = files(notes.server, notes)

    delete(notes)

    wait_for("the file to go", lambda: not file.exists())
    assert download(export.url).status_code == 404
    export_id = export.url.split("/")[-4]
    assert notes.server.sql("SELECT 1 FROM dataset_exports WHERE id = %s", export_id) == []


def test_the_other_versions_keep_their_files(notes: App, server: Server, stub: V2Stub) -> None:
    other = new_app(server, stub)
    other.call("PostDatasets", datasets=[Dataset(id="d")])
    urls = [exported(app, frozen(app, id=name)).url for app, name in ((notes, "v"), (notes, "w"), (other, "v"))]

    delete_version(notes)

    assert [download(url).status_code for url in urls] == [404, 200, 200]


def test_deleted_inputs_are_gone_from_later_archives_only(notes: App) -> None:
    version_id = frozen(notes)
    first = unpacked(download(exported(notes, version_id).url).content)
    notes.call("DeleteInputs", ids=["i1"])

    as_json = unpacked_json(download(exported(notes, version_id, JSON).url).content)

    assert [item.id for item in first] == ["i0", "i1", "i2"]
    assert [item["id"] for item in as_json] == ["i0", "i2"]
    assert [item.id for item in contents(notes, version_id)] == ["i0", "i1", "i2"]
