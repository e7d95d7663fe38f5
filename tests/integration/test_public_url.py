"""By which address a server that others reach names what it hosts."""

from __future__ import annotations

from tests.integration.serving import connected, home, new_app, of_bytes, picture, server_at

EVERYWHERE = "0.0.0.0"


def test_a_server_for_others_warns_that_its_urls_are_for_this_machine() -> None:
    with home() as folder, server_at(folder, host=EVERYWHERE) as server:
        server.start()

        (line,) = [line for line in server.log.splitlines() if "SIGHTRANK_PUBLIC_URL" in line]
        assert "warning" in line
        assert server.base in line


def test_a_public_url_names_what_is_hosted() -> None:
    public = "https://photos.example/here"
    with home() as folder, server_at(folder, host=EVERYWHERE, SIGHTRANK_PUBLIC_URL=public) as server:
        server.start()
        with connected(server) as stub:
            app = new_app(server, stub)
            app.post(of_bytes(picture(1), "a"))

            image = app.call("GetInput", input_id="a").input.data.image

        assert image.url == f"{public}/media/orig/admin/{app.id}/a"
        assert image.hosted.prefix == f"{public}/media"
        assert "SIGHTRANK_PUBLIC_URL" not in server.log
