"""Pages of other origins in a real browser: hosted images as they see them."""

from __future__ import annotations

import base64

import pytest
from tests.browsing import in_browser
from tests.integration.serving import PAT, SUCCESS, App, of_bytes, picture

_SIZE = """
const size = async url => {
    const answer = await fetch(url, {headers: {Authorization: "Key " + given.pat}});
    return answer.ok ? (await answer.blob()).size : answer.status;
};
const call = (method, path, body) => fetch(given.app + path, {
    method, headers: {Authorization: "Key " + given.pat}, body: body && JSON.stringify(body)
}).then(answer => answer.json());
"""


def test_a_page_sees_the_image_that_is_there_now(app: App) -> None:
    first, second = picture(1, width=400), picture(2, width=200)
    app.post(of_bytes(first, "avatar"))
    image = app.call("GetInput", input_id="avatar").input.data.image.hosted

    seen = in_browser(
        _SIZE
        + """
        const sizes = [await size(given.url), await size(given.url)];
        await call("DELETE", "/inputs/avatar");
        sizes.push(await size(given.url));
        const data = {image: {base64: given.second}};
        await call("POST", "/inputs", {inputs: [{id: "avatar", data}]});
        sizes.push(await size(given.url));
        return sizes;
        """,
        pat=PAT,
        app=app.server.base + app.path,
        url=f"{image.prefix}/orig/{image.suffix}",
        second=_base64(second),
    )

    assert seen == [len(first), len(first), 404, len(second)]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


_SHOWN = """
const shown = (url, crossorigin) => new Promise(resolve => {
    const image = new Image();
    if (crossorigin) image.crossOrigin = crossorigin;
    image.onload = () => resolve(image.naturalWidth);
    image.onerror = () => resolve("error");
    image.src = url;
});
const fetched = (url, options) => fetch(url, options).then(async answer => (await answer.blob()).size, () => "blocked");
"""


def test_a_page_may_add_the_headers_that_its_tools_add(app: App) -> None:
    status = in_browser(
        """
        const added = ["X-Requested-With", "traceparent", "sentry-trace", "baggage", "Cache-Control", "If-None-Match"];
        const headers = {Authorization: "Key " + given.pat};
        for (const name of added) headers[name] = "x";
        return (await (await fetch(given.app + "/inputs", {headers})).json()).status.code;
        """,
        pat=PAT,
        app=app.server.base + app.path,
    )

    assert status == SUCCESS


@pytest.fixture
def url(app: App) -> str:
    """Of a picture that is 96 pixels wide."""
    app.post(of_bytes(picture(1), "a"))
    image = app.call("GetInput", input_id="a").input.data.image.hosted
    return f"{image.prefix}/orig/{image.suffix}"


def test_a_page_of_the_same_host_shows_images_by_the_cookie(app: App, url: str) -> None:
    seen = in_browser(
        _SHOWN
        + """
        const without = await shown(given.url, "use-credentials");
        document.cookie = "x-clarifai-api-key=" + given.pat + "; path=/";
        return [
            without,
            await shown(given.url),
            await shown(given.url, "use-credentials"),
            await fetched(given.url, {credentials: "include"}),
            await fetched(given.app + "/inputs", {credentials: "include"}),
        ];
        """,
        pat=PAT,
        url=url,
        app=app.server.base + app.path,
    )

    assert seen == ["error", 96, 96, len(picture(1)), "blocked"]


def test_a_page_of_another_host_reads_images_by_the_key_and_never_by_a_cookie(url: str) -> None:
    seen = in_browser(
        _SHOWN
        + """
        return [
            await fetched(given.url, {headers: {Authorization: "Key " + given.pat}}),
            await fetched(given.url, {headers: {Authorization: "Key " + given.pat}, credentials: "include"}),
            await shown(given.url, "use-credentials"),
        ];
        """,
        host="localhost",
        pat=PAT,
        url=url,
    )

    assert seen == [len(picture(1)), "blocked", "error"]
