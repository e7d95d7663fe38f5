"""The guide's Rank searches with the `clarifai` SDK, whose Search class ranks inputs (PostInputsSearches).

    pip install clarifai 'protobuf<7'
    eval "$(sightrank env)"
    python examples/python/sdk_search.py

The SDK reads CLARIFAI_API_BASE, CLARIFAI_PAT and the rest of `sightrank env` itself. http:// means gRPC without TLS
on the HTTP port. OWN_CONCEPT, IMAGE_URL and IMAGE_FILE choose what to search by; without them it is the newest input.
Two things it cannot say: rank by an input id, and a concept *name* that is not ASCII (an `id` may be any text, and
sightrank reads an id that no concept has as a name).
"""

from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clarifai.client.input import Inputs
from clarifai.client.search import Search

USER_ID, APP_ID, PAT = (os.environ[name] for name in ("CLARIFAI_USER_ID", "CLARIFAI_APP_ID", "CLARIFAI_PAT"))
API_BASE = os.environ["CLARIFAI_API_BASE"]


def by_concept(**fields: str | int) -> dict[str, Any]:
    return {"concepts": [fields]}


def searches() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    yield "by a concept of clarifai/main: people", [by_concept(id="people", value=1)]
    if own := os.environ.get("OWN_CONCEPT"):
        yield f"by a concept of your own: {own}", [by_concept(id=own, value=1)]
    yield "by both: cat, and no dog", [by_concept(id="cat", value=1), by_concept(id="dog", value=0)]
    yield "by a concept in another language: 犬 (ja)", [by_concept(id="犬", language="ja", value=1)]

    url = os.environ.get("IMAGE_URL") or newest_photo()
    yield f"by an image's URL: {url}", [{"image_url": url}]
    file = os.environ.get("IMAGE_FILE")
    yield "by an image's bytes", [{"image_bytes": Path(file).read_bytes() if file else download(url)}]


def newest_photo() -> str:
    inputs = Inputs(user_id=USER_ID, app_id=APP_ID).list_inputs(page_no=1, per_page=1)
    newest = next(inputs, None)
    return newest.data.image.url if newest else sys.exit("failed: the app holds no inputs yet; add photos first")


def download(url: str) -> bytes:
    headers = {"Authorization": f"Key {PAT}"} if url.startswith(f"{API_BASE}/") else {}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as response:
        return response.read()


def main() -> None:
    for title, ranks in searches():
        print(title)
        print(f"{'#':>4}  {'score':<6}  {'input':<32}  annotation")
        pages = Search(user_id=USER_ID, app_id=APP_ID, top_k=10).query(ranks=ranks)
        for number, hit in enumerate((hit for page in pages for hit in page.hits), start=1):
            print(f"{number:>4}  {hit.score:.4f}  {hit.input.id:<32}  {hit.annotation.id}")
        print()


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # The SDK raises plain exceptions whose text holds the answer's status.
        sys.exit(f"failed: {error}")
