"""Which rpc a method and a path mean. Built from the descriptors; no route is written by hand.

Rules (api-spec 1.2): a literal segment beats a variable, so ``/v2/inputs/status`` is never an input called "status",
also where the proto has the literal path under ``/v2/users/…/apps/…`` alone (``concepts/relations``);
``annnotations/searches`` (three n, as Clarifai's guide prints it) is ``annotations/searches``; one trailing slash is
accepted on any path.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from sightrank.wire.service import HttpBinding, Rpc


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """An rpc behind a path. ``variables`` are the request fields the path fills, each as a path of field names."""

    rpc: str
    variables: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A known path: what each method means there, and the values of its variables in the order of the path."""

    bindings: Mapping[str, Binding]
    values: tuple[str, ...]


@dataclass(slots=True)
class _Node:
    """One segment of the tree of paths."""

    literals: dict[str, _Node] = field(default_factory=dict)
    variable: _Node | None = None
    bindings: dict[str, Binding] = field(default_factory=dict)


_APP_PREFIX = "/v2/users/{user_app_id.user_id}/apps/{user_app_id.app_id}/"
#: Words that are no ids although no path ends with them (api-spec 1.2).
_RESERVED = ("/v2/concepts/languages", f"{_APP_PREFIX}concepts/languages")


class RouteTable:
    """All paths of the API as a tree of segments."""

    def __init__(self, rpcs: Iterable[Rpc]) -> None:
        self._root = _Node()
        bindings = [(rpc.name, binding) for rpc in rpcs for binding in rpc.bindings]
        for rpc, binding in bindings:
            for template in _spellings(binding.template):
                self._add(rpc, binding.method, template)
        for rpc, method, template in [*self._captured(bindings)]:
            self._add(rpc, method, template)
        for template in _RESERVED:
            self._node(template)

    def find(self, raw_path: str) -> Place | None:
        """The place of a percent-encoded path, or None where the API has no such path."""
        path = raw_path[:-1] if raw_path.endswith("/") else raw_path
        segments = [unquote(segment) for segment in path.split("/")[1:]]
        return _walk(self._root, segments, 0, ())

    def _captured(self, bindings: Iterable[tuple[str, HttpBinding]]) -> Iterator[tuple[str, str, str]]:
        """Literal paths stated below an app alone, which without the app would be taken for somebody's id."""
        for rpc, binding in bindings:
            short = binding.template.replace(_APP_PREFIX, "/v2/", 1)
            place = None if "{" in short else self.find(short)
            if place is not None and place.values:
                yield rpc, binding.method, short

    def _add(self, rpc: str, method: str, template: str) -> None:
        node, variables = self._node(template)
        taken = node.bindings.get(method)
        if taken is None or _speaks_for(method, rpc, taken.rpc):
            node.bindings[method] = Binding(rpc=rpc, variables=variables)

    def _node(self, template: str) -> tuple[_Node, tuple[tuple[str, ...], ...]]:
        """The node of a template, made if need be, and the fields its variables fill."""
        node, variables = self._root, []
        for segment in template.split("/")[1:]:
            if segment.startswith("{"):
                variables.append(tuple(segment.strip("{}").split(".")))
                node.variable = node.variable or _Node()
                node = node.variable
            else:
                node = node.literals.setdefault(segment, _Node())
        return node, tuple(variables)


def _walk(node: _Node, segments: list[str], depth: int, values: tuple[str, ...]) -> Place | None:
    if depth == len(segments):
        return Place(bindings=node.bindings, values=values) if node.bindings else None
    segment = segments[depth]
    literal = node.literals.get(segment)
    if literal is not None:
        place = _walk(literal, segments, depth + 1, values)
        if place is not None:
            return place
    # A literal at the end of a path is not an id, even where it leads nowhere by itself (`inputs/jobs`).
    is_word = literal is not None and depth + 1 == len(segments)
    if node.variable is None or not segment or is_word:
        return None
    return _walk(node.variable, segments, depth + 1, (*values, segment))


def _spellings(template: str) -> tuple[str, ...]:
    misspelt = template.replace("/annotations/searches", "/annnotations/searches")
    return (template,) if misspelt == template else (template, misspelt)


def _speaks_for(method: str, rpc: str, taken: str) -> bool:
    """Whether ``rpc`` has the better claim to a path two rpcs state.

    The proto has four such slips (``PostPipelines`` also states ``GET /v2/pipelines``); the rpc named after the method
    is the one that is meant, and between equals the first.
    """
    verbs = ("List", "Get") if method == "GET" else (method.capitalize(),)
    return rpc.startswith(verbs) and not taken.startswith(verbs)
