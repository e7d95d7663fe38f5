"""The table of what every rpc demands, and the arithmetic of scopes (api-spec 2.3)."""

from __future__ import annotations

from pathlib import Path

import pytest

from sightrank.api import identity
from sightrank.api.pages import Page, list_page, search_page
from sightrank.api.scopes import (
    AuthType,
    missing_for,
    missing_to_grant,
    parse_endpoints,
    parse_scopes,
    rpc_rules,
    scope_dependencies,
)
from sightrank.errors import InvalidRequest, SearchInvalid
from sightrank.store.queries import load


def test_the_table_covers_the_service() -> None:
    rules = rpc_rules()
    assert len(rules) >= 273
    assert rules["PostInputs"].auth_type is AuthType.KEY
    assert rules["PostInputs"].scopes >= {"Apps_Get", "Inputs_Add", "Predict"}
    assert rules["PostApps"].auth_type is AuthType.PAT
    assert rules["ListStatusCodes"].auth_type is AuthType.NONE
    assert rules["ListScopes"].auth_type.wants_pat


@pytest.mark.parametrize("rpc", ["PostInputs", "GetApp", "DeleteApp", "ListAppKeys", "ListModels", "PostSearchesByID"])
def test_rpcs_below_an_app_are_app_scoped(rpc: str) -> None:
    assert rpc_rules()[rpc].app_scoped


@pytest.mark.parametrize("rpc", ["PostApps", "ListApps", "PatchApps", "PostKeys", "DeleteKey", "GetUser", "ListScopes"])
def test_rpcs_of_a_user_are_not(rpc: str) -> None:
    assert not rpc_rules()[rpc].app_scoped


def test_the_lists_of_public_rpcs_name_real_ones_that_change_nothing() -> None:
    assert rpc_rules().keys() >= identity.PUBLIC_READS
    reading = ("Get", "List", "Stream", "MyScopes")
    others = {rpc for rpc in identity.PUBLIC_READS if not rpc.startswith(reading)}
    assert all(rpc.endswith(("Searches", "Outputs", "Results")) for rpc in others)
    assert "ListAppKeys" not in identity.PUBLIC_READS


def test_both_spellings_are_read() -> None:
    assert parse_scopes(["Inputs:Add", "Inputs_Add", " All "]) == ("All", "Inputs_Add")
    assert parse_endpoints(["PostInputs", "/clarifai.api.V2/PostInputs"]) == ("/clarifai.api.V2/PostInputs",)


@pytest.mark.parametrize("name", ["undef", "inputs_add", "", "Inputs:Write"])
def test_an_unknown_scope_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="Unknown scope"):
        parse_scopes(["All", name])


def test_all_opens_everything_except_past_endpoints() -> None:
    everything = frozenset({"All"})
    assert all(not missing_for(rpc, everything, frozenset()) for rpc in rpc_rules())
    only = frozenset({"/clarifai.api.V2/GetInput"})
    assert missing_for("GetInput", everything, only) == []
    assert missing_for("PostInputs", everything, only) == ["endpoint /clarifai.api.V2/PostInputs"]


def test_what_is_missing_is_named_in_order() -> None:
    scopes = frozenset({"Apps_Get", "Concepts_Get"})
    assert missing_for("GetConcept", scopes, frozenset()) == []
    assert missing_for("GetInput", scopes, frozenset()) == ["scope Annotations_Get", "scope Inputs_Get"]


def test_grants_cannot_grow() -> None:
    all_, none = frozenset({"All"}), frozenset[str]()
    assert missing_to_grant(all_, none, by_scopes=all_, by_endpoints=none) == []
    assert missing_to_grant(all_, none, by_scopes=frozenset({"Search"}), by_endpoints=none) == ["scope All"]
    assert missing_to_grant(all_, none, by_scopes=all_, by_endpoints=frozenset({"e"})) == ["endpoint all"]


def test_add_needs_get() -> None:
    needed = scope_dependencies()
    assert needed["Inputs_Add"] == ("Inputs_Get",)
    assert set(needed["Inputs_Delete"]) == {"Inputs_Add", "Inputs_Get"}


class _Asked:
    def __init__(self, page: int = 0, per_page: int = 0) -> None:
        self.page, self.per_page = page, per_page


def test_pages_have_defaults_and_bounds() -> None:
    assert list_page(_Asked()) == Page(1, 128)
    assert list_page(_Asked(1000, 500)).of(range(10)) == range(10, 10)
    assert list_page(_Asked(2, 3)).of("abcdefgh") == "def"
    with pytest.raises(InvalidRequest, match="1000"):
        list_page(_Asked(1, 1001))
    assert search_page(_Asked(10, 1000)) == Page(10, 1000)
    with pytest.raises(SearchInvalid) as caught:
        search_page(_Asked(10001, 1))
    assert "page * perPage cannot exceed" in caught.value.details


def test_a_page_is_literal_in_the_statement() -> None:
    assert Page(3, 20).limit("SELECT 1").as_string() == "SELECT 1 LIMIT 20 OFFSET 40"


def test_every_statement_of_this_folder_can_be_read() -> None:
    nouns = [path.stem for path in (Path("src/sightrank/store/sql")).glob("*.sql")]
    assert {"identity", "apps", "keys", "concepts"} <= set(nouns)
    assert all(load(noun) for noun in nouns)
