"""The JSON bodies of the guide's Rank page, sent the way its cURL and fetch examples send them."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.contract.conftest import Library
from tests.contract.serving import Server

GUIDE_PATH = "/v2/annnotations/searches"  # sic: the guide writes three n everywhere
SAME = 0.99

Json = dict[str, Any]
Post = Callable[[Json], httpx.Response]


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.base, trust_env=False, timeout=60.0) as client:
        yield client


@pytest.fixture(params=["curl", "fetch"])
def post(request: pytest.FixtureRequest, http: httpx.Client, server: Server, library: Library) -> Post:
    """cURL: app key, no app id, a JSON content type. fetch: token, user_app_id in the body, a text content type."""

    def as_curl(body: Json) -> httpx.Response:
        headers = {"Authorization": f"Key {server.api_key}", "Content-Type": "application/json"}
        return http.post(GUIDE_PATH, headers=headers, content=json.dumps(body, ensure_ascii=False))

    def as_fetch(body: Json) -> httpx.Response:
        whole = {"user_app_id": {"user_id": server.user_id, "app_id": server.app_id}} | body
        headers = {
            "Accept": "application/json",
            "Authorization": f"Key {server.pat}",
            "Content-Type": "text/plain;charset=UTF-8",
        }
        return http.post(GUIDE_PATH, headers=headers, content=json.dumps(whole, ensure_ascii=False))

    return as_curl if request.param == "curl" else as_fetch


def body(*ranks: Json) -> Json:
    return {"searches": [{"query": {"ranks": [{"annotation": rank} for rank in ranks]}}]}


def concept(**fields: Any) -> Json:
    return {"data": {"concepts": [fields]}}


def image(**fields: str) -> Json:
    return {"data": {"image": fields}}


def hits(answer: httpx.Response) -> list[Json]:
    content = answer.json()
    assert (answer.status_code, content["status"]["code"]) == (200, 10000), content
    return content["hits"]


def names(answer: httpx.Response) -> list[str]:
    return [hit["input"]["id"] for hit in hits(answer)]


def test_by_a_concept_of_clarifai_main(post: Post, library: Library) -> None:
    found = hits(post(body(concept(id="people", value=1))))
    assert {hit["input"]["id"] for hit in found} == set(library.pictures)
    assert all(0 <= hit["score"] <= 1 and hit["annotation"]["id"] for hit in found)


def test_by_a_custom_concept(post: Post, library: Library) -> None:
    assert set(names(post(body(concept(id="favourite", value=1))))[:3]) == library.favourites


def test_an_absent_value_is_1_in_json(post: Post) -> None:
    assert names(post(body(concept(id="people")))) == names(post(body(concept(id="people", value=1))))


def test_by_a_label_and_a_prediction(post: Post, library: Library) -> None:
    assert names(post(body(concept(id="cat", value=1), concept(id="dog", value=0))))[0] == library.cat


def test_by_a_concept_in_another_language(post: Post) -> None:
    japanese = names(post(body(concept(name="犬", language="ja", value=1))))
    assert japanese == names(post(body(concept(id="dog", value=1))))


def test_by_image_url(post: Post, library: Library) -> None:
    name, url = next(iter(library.urls.items()))
    first = hits(post(body(image(url=url))))[0]
    assert first["input"]["id"] == name
    assert first["score"] >= SAME


def test_by_image_bytes(post: Post, library: Library) -> None:
    """The corrected form of the guide's example; `base64` wraps its lines, so the text may hold white space."""
    name, picture = next(iter(library.pictures.items()))
    for text in (base64.b64encode(picture.data), base64.encodebytes(picture.data)):
        first = hits(post(body(image(base64=text.decode()))))[0]
        assert first["input"]["id"] == name
        assert first["score"] >= SAME


def test_by_input_id(post: Post, library: Library) -> None:
    name = next(iter(library.pictures))
    first = hits(post(body({"input_id": name})))[0]
    assert first["input"]["id"] == name
    assert first["score"] >= SAME


def test_the_input_id_that_the_guide_puts_into_the_image_is_ignored(post: Post, library: Library) -> None:
    """The proto has no such field and unknown fields are ignored, which leaves a rank that asks for nothing."""
    found = hits(post(body({"data": {"image": {"input_id": next(iter(library.pictures))}}})))
    assert len(found) >= len(library.pictures)


@pytest.mark.parametrize("path", ["/v2/annotations/searches", "/v2/annnotations/searches", "/v2/annotations/searches/"])
def test_spellings_of_the_path(http: httpx.Client, server: Server, library: Library, path: str) -> None:
    headers = {"Authorization": f"Key {server.api_key}"}
    assert names(http.post(path, headers=headers, json=body(concept(id="people", value=1))))


def test_a_path_that_names_the_app(http: httpx.Client, server: Server, library: Library) -> None:
    path = f"/v2/users/{server.user_id}/apps/{server.app_id}/annotations/searches"
    headers = {"Authorization": f"Key {server.pat}"}
    assert names(http.post(path, headers=headers, json=body(concept(id="people", value=1))))


def test_rest_over_tls(server: Server, library: Library) -> None:
    context = ssl.create_default_context(cafile=str(server.ca))
    with httpx.Client(base_url=server.tls_base, verify=context, trust_env=False, timeout=60.0) as client:
        answer = client.post(
            GUIDE_PATH,
            headers={"Authorization": f"Key {server.api_key}"},
            json=body(concept(id="people", value=1)),
        )
    assert names(answer)


def test_a_browser_may_call(http: httpx.Client, server: Server, library: Library) -> None:
    """fetch with an Authorization header asks first, and shows the page nothing without an allowed origin."""
    asked = {
        "Origin": "http://localhost:8080",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    allowed = http.options("/v2/annotations/searches", headers=asked)
    assert allowed.status_code in (200, 204)
    assert allowed.headers["access-control-allow-origin"] in ("*", asked["Origin"])
    assert {"authorization", "content-type"} <= set(
        allowed.headers["access-control-allow-headers"].lower().replace(" ", "").split(",")
    )
    assert "POST" in allowed.headers["access-control-allow-methods"]

    whole = {"user_app_id": {"user_id": server.user_id, "app_id": server.app_id}} | body(concept(id="people"))
    headers = {"Origin": asked["Origin"], "Authorization": f"Key {server.pat}"}
    answer = http.post("/v2/annotations/searches", headers=headers, content=json.dumps(whole))
    assert answer.headers["access-control-allow-origin"] in ("*", asked["Origin"])
    uploaded = next(name for name in library.pictures if name not in library.urls)
    shown = http.get(hosted_url(http, server, uploaded), headers=headers)
    assert shown.content == library.pictures[uploaded].data
    assert shown.headers["access-control-allow-origin"] in ("*", asked["Origin"])
    refused = http.post("/v2/annotations/searches", headers={"Origin": asked["Origin"]}, content="{}")
    assert refused.headers["access-control-allow-origin"] in ("*", asked["Origin"])


def hosted_url(http: httpx.Client, server: Server, name: str) -> str:
    answer = http.get(f"/v2/inputs/{name}", headers={"Authorization": f"Key {server.api_key}"})
    return answer.json()["input"]["data"]["image"]["url"]


# The guide's bytes example, through a shell: as printed it is broken JSON, with one quote more it works. --------------


def curl_bytes(server: Server, photo: Path, quote: str) -> Json:
    """A shell command of the guide's form. ``quote`` is what stands before the base64 text."""
    if not (shutil.which("curl") and shutil.which("bash") and shutil.which("base64")):
        pytest.skip("needs bash, base64 and curl")
    start = '{"searches": [{"query": {"ranks": [{"annotation": {"data": {"image": {"base64": '
    end = '"}}}}]}}]}'
    script = f"""curl -sS --noproxy '*' -X POST -H "Authorization: Key $KEY" -H "Content-Type: application/json" \\
        -d '{start}{quote}'"`base64 "$PHOTO"`"'{end}' "$BASE{GUIDE_PATH}" """
    environment = os.environ | {"KEY": server.api_key, "PHOTO": str(photo), "BASE": server.base}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, check=True, timeout=60, text=True
    )
    return json.loads(done.stdout)


def test_the_guides_bytes_example_is_told_what_is_wrong(server: Server, library: Library, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(smallest(library))
    status = curl_bytes(server, photo, quote="")["status"]
    assert status["code"] == 11100
    assert status["description"] == "Bad request format"
    assert "double quotes" in status["details"]


def test_the_guides_bytes_example_with_its_quote(server: Server, library: Library, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(smallest(library))
    answer = curl_bytes(server, photo, quote='"')
    assert answer["status"]["code"] == 10000
    assert library.pictures[answer["hits"][0]["input"]["id"]].data == photo.read_bytes()


def smallest(library: Library) -> bytes:
    """A command line argument holds 128 KiB at most, so not every photo fits into the guide's example."""
    return min((picture.data for picture in library.pictures.values()), key=len)
