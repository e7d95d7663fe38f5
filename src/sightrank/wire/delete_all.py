"""``delete_all`` in the JSON of a call that has no such field.

Unknown fields are ignored, but this one asks for the most there is: who wrote it must not read a success. The API had
it once in more calls than today.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from sightrank.errors import InvalidRequest
from sightrank.wire.service import Rpc

_NAMES = ("delete_all", "deleteAll")


def refuse_delete_all(rpc: Rpc, fields: dict[str, Any]) -> None:
    """Raises InvalidRequest where a bulk delete that only takes ids is to delete everything."""
    if not (rpc.name.startswith("Delete") and any(fields.get(name) for name in _NAMES)):
        return
    known = rpc.request_descriptor.fields_by_name
    lists = [each.name for each in known.values() if each.is_repeated and each.type == FieldDescriptor.TYPE_STRING]
    if lists and "delete_all" not in known:
        raise InvalidRequest(
            f"delete_all is not served by {rpc.name}: nothing was deleted. Name what to delete in"
            f" {' and '.join(lists)}; DeleteApp deletes an app with everything in it."
        )
