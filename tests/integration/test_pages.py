"""Pages of other origins in a real browser: hosted images as they see them."""

from __future__ import annotations

import base64

from tests.browsing import in_browser
from tests.integration.serving import PAT, App, of_bytes, picture

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
