"""Hits of the public API as the command line shows them: regions, frames, labels."""

from __future__ import annotations

from typing import Any

import pytest

from sightrank.api_client import Access, Box, Hit, read_hit
from sightrank.search_command import Query, labels, place

BOX = {"top_row": 0.1, "left_col": 0.25, "bottom_row": 0.9, "right_col": 1}
REGION = {"region_info": {"bounding_box": BOX}, "data": {"concepts": [{"id": "gate", "value": 1}]}}
FRAME = {"frame_info": {"index": 2, "time": 1500}, "data": {"regions": [REGION]}}


def hit(data: dict[str, Any], shown: dict[str, Any] | None = None) -> Hit:
    item = {"id": "a", "data": shown or {}}
    return read_hit({"score": 0.5, "input": item, "annotation": {"id": "b", "data": data}})


@pytest.mark.parametrize(
    ("data", "where"),
    [
        ({}, "whole image"),
        ({"regions": [REGION]}, "region 0.10 0.25 0.90 1.00"),
        ({"regions": [{"region_info": {"point": {}}}]}, "whole image"),
        ({"frames": [FRAME]}, "at 1.5 s, region 0.10 0.25 0.90 1.00"),
        ({"frames": [{"frame_info": {}}]}, "at 0 s"),
    ],
)
def test_the_part_of_the_input_that_was_found(data: dict[str, Any], where: str) -> None:
    assert place(hit(data)) == where


def test_labels_are_those_of_the_part_surest_first() -> None:
    said = [{"id": "x", "name": "X", "value": 0.2}, {"id": "y", "value": 1}, {"id": "z"}, {"id": "w", "value": 0.5}]

    assert labels(hit({"concepts": said})) == "y 1.00, w 0.50, X 0.20"
    assert labels(hit({"frames": [FRAME], "concepts": said})) == "gate 1.00"
    assert hit({"regions": [REGION]}).box == Box(top=0.1, left=0.25, bottom=0.9, right=1.0)


def test_pictures_are_asked_for_where_the_server_hosts_them() -> None:
    hosted = {"image": {"url": "https://elsewhere/a.jpg", "hosted": {"prefix": "http://h/media", "suffix": "u/p/a"}}}

    assert hit({}, hosted).picture_url == "http://h/media/small/u/p/a"
    assert hit({}, {"image": {"url": "https://elsewhere/a.jpg"}}).picture_url == ""


def test_an_app_is_named_in_the_path_unless_the_key_names_it() -> None:
    named = Access(base="http://h/", key="k", user_id="me", app_id="my app")

    assert named.path("inputs") == "http://h/v2/users/me/apps/my%20app/inputs"
    assert Access(base="http://h", key="k").path("inputs") == "http://h/v2/inputs"


def test_a_query_is_told_in_words() -> None:
    assert Query(text="a boat", without=("people",)).words() == "a boat, no people"
    assert Query(image="a.jpg").words() == "photos that look like this"
    assert len(Query(text="a", concepts=("b", "c"), without=("d",), image="https://h/e").ranks()) == 5
