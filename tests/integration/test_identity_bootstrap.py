"""The first start, the second, and two at once."""

from __future__ import annotations

import asyncio
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.integration.worlds import small_catalogue

from sightrank.api.bootstrap import Bootstrap, BootstrapError, Credentials, bootstrap, env_lines, read_credentials
from sightrank.api.identity import Identity
from sightrank.errors import KeyInvalid
from sightrank.settings import Settings
from sightrank.store.database import Database


def start(url: str, data_dir: Path, *, then: str = "", **settings: Any) -> Bootstrap:
    """One start of a server; ``then`` is a statement run after it."""

    async def once() -> Bootstrap:
        database = Database(url)
        await database.open()
        try:
            made = await bootstrap(database, Settings(data_dir=data_dir, **settings), small_catalogue())
            if then:
                await database.execute(then)
            return made
        finally:
            await database.close()

    return asyncio.run(once())


def opens(url: str, key: str) -> tuple[str, str]:
    """The user of a key, and the app it is bound to."""

    async def ask() -> tuple[str, str]:
        database = Database(url)
        await database.open()
        try:
            caller = await Identity(database).caller(key)
            return caller.user_id, caller.app.app_id if caller.app else ""
        finally:
            await database.close()

    return asyncio.run(ask())


def test_the_first_start_makes_keys_and_shows_them_once(database_url: str, tmp_path: Path) -> None:
    first = start(database_url, tmp_path)
    assert first.made
    made = first.credentials
    assert (made.user_id, made.app_id) == ("admin", "photos")
    assert len(made.pat) == len(made.api_key) == 32
    assert opens(database_url, made.pat) == ("admin", "")
    assert opens(database_url, made.api_key) == ("admin", "photos")
    file = tmp_path / "credentials.env"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_credentials(file) == made
    assert [path.name for path in tmp_path.iterdir()] == ["credentials.env"]
    text = file.read_text()
    again = start(database_url, tmp_path)
    assert not again.made
    assert again.credentials == made
    assert file.read_text() == text


def test_the_file_can_be_taken_in_by_a_shell(tmp_path: Path, database_url: str) -> None:
    made = start(database_url, tmp_path).credentials
    script = (
        ". ./credentials.env && printf '%s %s %s %s' $CLARIFAI_PAT $CLARIFAI_API_KEY $CLARIFAI_USER_ID $CLARIFAI_APP_ID"
    )
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [made.pat, made.api_key, "admin", "photos"]


def test_fixed_keys_are_valid_also_when_they_come_later(database_url: str, tmp_path: Path) -> None:
    random = start(database_url, tmp_path).credentials
    fixed = {"bootstrap_pat": "p" * 32, "bootstrap_api_key": "k" * 32}
    for _ in range(2):
        later = start(database_url, tmp_path, **fixed)
        assert not later.made
        assert (later.credentials.pat, later.credentials.api_key) == ("p" * 32, "k" * 32)
    assert read_credentials(tmp_path / "credentials.env") == later.credentials
    assert opens(database_url, "p" * 32) == ("admin", "")
    assert opens(database_url, "k" * 32) == ("admin", "photos")
    assert opens(database_url, random.pat) == ("admin", "")


def test_a_fixed_key_moves_to_the_app_the_settings_name(database_url: str, tmp_path: Path) -> None:
    start(database_url, tmp_path, bootstrap_api_key="k" * 32)
    start(database_url, tmp_path, bootstrap_api_key="k" * 32, bootstrap_user_id="eve", bootstrap_app_id="cats")
    assert opens(database_url, "k" * 32) == ("eve", "cats")


def test_a_fixed_key_that_expired_or_lost_scopes_is_valid_again(database_url: str, tmp_path: Path) -> None:
    spoil = "UPDATE keys SET expires_at = now() - interval '1 day', scopes = '{}'"
    start(database_url, tmp_path, bootstrap_pat="p" * 32, then=spoil)
    with pytest.raises(KeyInvalid):
        opens(database_url, "p" * 32)
    start(database_url, tmp_path, bootstrap_pat="p" * 32)
    assert opens(database_url, "p" * 32) == ("admin", "")


def test_a_revoked_random_key_does_not_come_back(database_url: str, tmp_path: Path) -> None:
    made = start(database_url, tmp_path, then="DELETE FROM keys").credentials
    assert not start(database_url, tmp_path).made
    for key in (made.pat, made.api_key):
        with pytest.raises(KeyInvalid):
            opens(database_url, key)


def test_keys_of_a_start_that_died_before_its_commit_are_taken_up(database_url: str, tmp_path: Path) -> None:
    lost = Credentials(user_id="admin", app_id="photos", pat="1" * 32, api_key="2" * 32)
    (tmp_path / "credentials.env").write_text("".join(f"{line}\n" for line in env_lines(lost)))
    first = start(database_url, tmp_path)
    assert (first.made, first.credentials) == (True, lost)
    assert opens(database_url, "2" * 32) == ("admin", "photos")


def test_a_new_app_in_the_settings_gets_a_key_of_its_own(database_url: str, tmp_path: Path) -> None:
    first = start(database_url, tmp_path).credentials
    second = start(database_url, tmp_path, bootstrap_app_id="cats")
    assert second.made
    assert second.credentials.pat == first.pat
    assert opens(database_url, second.credentials.api_key) == ("admin", "cats")
    assert opens(database_url, first.api_key) == ("admin", "photos")


def test_two_servers_that_start_at_once_make_one_set_of_keys(database_url: str, tmp_path: Path) -> None:
    async def both() -> list[Bootstrap]:
        databases = [Database(database_url) for _ in range(4)]
        for database in databases:
            await database.open()
        try:
            settings = [Settings(data_dir=tmp_path / str(number)) for number in range(4)]
            return await asyncio.gather(
                *(
                    bootstrap(database, each, small_catalogue())
                    for database, each in zip(databases, settings, strict=True)
                )
            )
        finally:
            for database in databases:
                await database.close()

    results = asyncio.run(both())
    makers = [result for result in results if result.made]
    assert len(makers) == 1
    assert opens(database_url, makers[0].credentials.pat) == ("admin", "")
    assert all(not result.credentials.pat for result in results if not result.made)
    assert len(list(tmp_path.glob("*/credentials.env"))) == 1


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"bootstrap_user_id": "clarifai"}, "reserves"),
        ({"bootstrap_user_id": "me"}, "reserves"),
        ({"bootstrap_user_id": "a b"}, "SIGHTRANK_BOOTSTRAP_USER_ID"),
        ({"bootstrap_app_id": "a/b"}, "not allowed"),
        ({"bootstrap_pat": "short"}, "SIGHTRANK_BOOTSTRAP_PAT"),
        ({"bootstrap_api_key": "with space inside"}, "SIGHTRANK_BOOTSTRAP_API_KEY"),
        ({"bootstrap_pat": "x" * 32, "bootstrap_api_key": "x" * 32}, "must differ"),
        ({"base_workflow": "Nope"}, "has no workflow .Nope.: it has General"),
    ],
)
def test_wrong_settings_stop_the_start_and_leave_nothing(
    database_url: str, tmp_path: Path, settings: dict[str, str], text: str
) -> None:
    with pytest.raises(BootstrapError, match=text):
        start(database_url, tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []
    assert start(database_url, tmp_path).made


def test_a_broken_credentials_file_is_named(database_url: str, tmp_path: Path) -> None:
    (tmp_path / "credentials.env").write_text("nonsense\n")
    with pytest.raises(BootstrapError, match=r"credentials\.env"):
        start(database_url, tmp_path)


def test_env_lines_quote_and_leave_out_what_is_unknown() -> None:
    lines = env_lines(
        Credentials(user_id="admin", app_id="photos", pat="a'b$c"), api_base="http://h:8000", grpc_base="h"
    )
    assert lines == [
        "export CLARIFAI_USER_ID=admin",
        "export CLARIFAI_APP_ID=photos",
        "export CLARIFAI_PAT='a'\"'\"'b$c'",
        "export CLARIFAI_API_BASE=http://h:8000",
        "export CLARIFAI_GRPC_BASE=h",
    ]
