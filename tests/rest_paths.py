"""The paths of REST bindings, as a client fills them in."""

from __future__ import annotations

from collections.abc import Mapping

from sightrank.wire.service import HttpBinding


def binding_path(binding: HttpBinding, values: Mapping[str, str]) -> str:
    """The path of a binding with its variables filled."""
    path = binding.template
    for name, value in values.items():
        path = path.replace("{" + name + "}", value)
    return path
