"""Models are added from folders and from a Hub, kept whole, listed with what is wrong, and removed."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.fake_hub import COMMIT, FakeHub, fake_hub
from tests.tiny_models import write_tiny_model

from sightrank.vision.bundle import BundleError
from sightrank.vision.model_folders import add_model, installed_models, remove_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_tiny_model(tmp_path_factory.mktemp("tiny") / "model", external=True)
    return write_tiny_model(folder, suffix="_fp16", half=True)


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def hub(tiny: Path) -> Iterator[FakeHub]:
    with fake_hub(clip=tiny) as running:
        yield running


def command(hub: FakeHub | None, models_dir: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    """Runs ``sightrank models``: exit code and what it wrote. The Hub's library reads its variables when imported."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url if hub else "http://127.0.0.1:9",
        "HF_HOME": str(models_dir.parent / "hf"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "SIGHTRANK_MODELS_DIR": str(models_dir),
        "NO_PROXY": "127.0.0.1",
        **variables,
    }
    program = "from sightrank.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "models", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_becomes_a_model_with_only_what_it_needs(tiny: Path, models_dir: Path) -> None:
    model = add_model(models_dir, str(tiny), "clip")
    assert (model.id, model.dims, model.precision, model.licence, model.revision) == ("clip", 12, "fp32", "mit", "")
    assert model.universal
    assert names(model.folder) == {
        "README.md",
        "config.json",
        "manifest.json",
        "onnx/text_model.onnx",
        "onnx/text_model.onnx_data",
        "onnx/vision_model.onnx",
        "onnx/vision_model.onnx_data",
        "preprocessor_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert installed_models(models_dir) == (model,)
    encoder = model.load(threads=1)
    assert encoder.texts.encode(["a dog"]).shape == (1, 12)
    manifest = json.loads((model.folder / "manifest.json").read_text())
    assert manifest["kind"] == "dual-encoder"
    assert set(manifest["sha256"]) == names(model.folder) - {"manifest.json"}


def test_the_version_is_that_of_the_content(tiny: Path, models_dir: Path, tmp_path: Path) -> None:
    first = add_model(models_dir, str(tiny), "first")
    other_papers = write_tiny_model(tmp_path / "papers", external=True, readme="no front matter")
    second = add_model(models_dir, str(other_papers), "second")
    third = add_model(models_dir, str(tiny), "third", precision="fp16")
    fourth = add_model(models_dir, str(write_tiny_model(tmp_path / "seed", external=True, seed=8)), "fourth")
    assert first.version == second.version
    assert second.licence == ""
    assert len({first.version, third.version, fourth.version}) == 3
    assert third.load(threads=1).precision == "fp16"


def test_the_first_model_serves_universal_until_another_is_given_that_role(tiny: Path, models_dir: Path) -> None:
    add_model(models_dir, str(tiny), "one")
    assert not add_model(models_dir, str(tiny), "two").universal
    assert add_model(models_dir, str(tiny), "three", universal=True).universal
    assert [(model.id, model.universal) for model in installed_models(models_dir)] == [
        ("one", False),
        ("two", False),
        ("three", True),
    ]
    assert remove_model(models_dir, "three") == "one"
    assert remove_model(models_dir, "two") is None
    assert remove_model(models_dir, "one") is None
    assert installed_models(models_dir) == ()
    assert add_model(models_dir, str(tiny), "four").universal


@pytest.mark.parametrize(
    "damage", ["altered", "missing file", "no manifest", "broken manifest", "renamed", "empty entry"]
)
def test_a_damaged_model_is_named_and_keeps_no_other_from_running(tiny: Path, models_dir: Path, damage: str) -> None:
    well = add_model(models_dir, str(tiny), "well")
    bad = add_model(models_dir, str(tiny), "bad").folder
    if damage == "altered":
        path = bad / "onnx" / "text_model.onnx_data"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    elif damage == "missing file":
        (bad / "tokenizer.json").unlink()
    elif damage == "no manifest":
        (bad / "manifest.json").unlink()
    elif damage == "broken manifest":
        (bad / "manifest.json").write_text("{")
    elif damage == "empty entry":
        (bad / "manifest.json").write_text(json.dumps({"id": "bad", "kind": "dual-encoder", "sha256": None}))
    else:
        bad = bad.rename(models_dir / "elsewhere")
    first, second = installed_models(models_dir)
    assert first == well
    assert second.id == bad.name
    assert second.problem.startswith(f"The model {bad.name} cannot be used: ")
    with pytest.raises(BundleError, match=f"The model {bad.name} cannot be used"):
        second.load(threads=1)
    remove_model(models_dir, bad.name)
    assert installed_models(models_dir) == (well,)


@pytest.mark.parametrize("model_id", ["", "../x", "a/b", ".hidden", "a b", "x" * 65, "ünlaut", "-x"])
def test_ids_that_could_be_paths_are_refused(tiny: Path, models_dir: Path, model_id: str) -> None:
    with pytest.raises(BundleError, match="cannot be a model's id"):
        add_model(models_dir, str(tiny), model_id)
    with pytest.raises(BundleError, match="cannot be a model's id"):
        remove_model(models_dir, model_id)
    assert not models_dir.exists()


def test_an_id_that_is_taken_or_built_in_is_refused(tiny: Path, models_dir: Path) -> None:
    model = add_model(models_dir, str(tiny), "clip")
    with pytest.raises(BundleError, match="There is a model clip already"):
        add_model(models_dir, str(tiny), "clip")
    for taken in ("Universal", "general"):
        with pytest.raises(BundleError, match="built-in"):
            add_model(models_dir, str(tiny), taken, reserved=["General"])
    assert installed_models(models_dir) == (model,)


def test_what_cannot_run_leaves_nothing_behind(models_dir: Path, tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "wrong")
    (folder / "onnx" / "text_model.onnx").write_bytes(b"nonsense")
    with pytest.raises(BundleError, match=r"wrong/onnx/text_model\.onnx cannot be run"):
        add_model(models_dir, str(folder), "wrong")
    assert names(models_dir) == {".lock"}
    assert [path for path in models_dir.iterdir() if path.is_dir()] == []


def test_two_commands_do_not_change_models_together(tiny: Path, models_dir: Path) -> None:
    models_dir.mkdir()
    with (models_dir / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(BundleError, match="Another command is changing"):
            add_model(models_dir, str(tiny), "clip")
    assert add_model(models_dir, str(tiny), "clip").id == "clip"


def test_a_repository_is_downloaded_and_gives_the_vectors_of_its_files(
    hub: FakeHub, tiny: Path, models_dir: Path
) -> None:
    code, output = command(hub, models_dir, "add", "tiny/clip", "--id", "clip")
    assert code == 0, output
    assert output.startswith("clip: 12 dimensions, fp32, version ")
    assert "Universal" in output
    (model,) = installed_models(models_dir)
    assert (model.repo, model.revision, model.licence) == ("tiny/clip", COMMIT, "mit")
    assert not any("fp16" in name for name, _ in hub.served)
    local = add_model(models_dir, str(tiny), "local")
    assert local.version == model.version
    texts = ["a dog", "a cat"]
    assert np.array_equal(model.load(threads=1).texts.encode(texts), local.load(threads=1).texts.encode(texts))
    assert names(model.folder) == names(local.folder)


def test_an_interrupted_download_goes_on_where_it_stopped(models_dir: Path, tmp_path: Path) -> None:
    """The Hub's library writes what arrives in blocks of ten megabytes, so the file has two of them."""
    weights, block = "onnx/vision_model.onnx_data", 10 * 2**20
    folder = write_tiny_model(tmp_path / "padded", external=True)
    with (folder / weights).open("ab") as file:
        file.write(np.random.RandomState(1).bytes(block))
    with fake_hub(clip=folder) as hub:
        hub.cut[weights] = block + 5
        code, output = command(hub, models_dir, "add", "tiny/clip", "--id", "clip")
        assert code == 1
        assert output.splitlines()[-1].startswith("sightrank: tiny/clip cannot be downloaded")
        assert installed_models(models_dir) == ()
        hub.cut.clear()
        hub.served.clear()
        code, output = command(hub, models_dir, "add", "tiny/clip", "--id", "clip")
        assert code == 0, output
        assert hub.served[0] == (weights, block)
        assert [name for name, _ in hub.served] == [weights]
    (model,) = installed_models(models_dir)
    assert model.problem == ""


@pytest.mark.parametrize("name", ["onnx/text_model.onnx_data", "config.json"])
def test_a_file_with_a_wrong_checksum_is_not_installed_and_fetched_again(
    hub: FakeHub, models_dir: Path, name: str
) -> None:
    hub.altered.add(name)
    code, output = command(hub, models_dir, "add", "tiny/clip", "--id", "clip")
    assert code == 1
    assert f"{name} did not arrive as the Hub states it (wrong checksum)" in output
    assert installed_models(models_dir) == ()
    hub.altered.clear()
    assert command(hub, models_dir, "add", "tiny/clip", "--id", "clip")[0] == 0


def test_what_the_hub_does_not_have_is_told_in_one_line(hub: FakeHub, tiny: Path, models_dir: Path) -> None:
    hub.missing.add("tokenizer.json")
    hub.repositories["tiny/empty"] = tiny / "onnx"
    for repo, reason in (
        ("tiny/unknown", "has no repository tiny/unknown that you may read"),
        ("tiny/clip", "tiny/clip names a file that"),
        ("tiny/empty", "tiny/empty has no config.json, preprocessor_config.json, tokenizer.json"),
        ("not a/repo/name", "is neither a folder here nor the name of a repository"),
    ):
        code, output = command(hub, models_dir, "add", repo, "--id", "clip")
        assert code == 1
        assert output.count("\n") == 1, output
        assert output.startswith("sightrank: ")
        assert reason in output
    assert installed_models(models_dir) == ()


def test_without_a_network_a_folder_works_and_a_repository_is_told(tiny: Path, models_dir: Path) -> None:
    code, output = command(None, models_dir, "add", "tiny/clip", "--id", "clip")
    assert code == 1
    assert output.count("\n") == 1, output
    assert "tiny/clip cannot be downloaded from http://127.0.0.1:9" in output
    code, output = command(None, models_dir, "add", "tiny/clip", "--id", "clip", HF_HUB_OFFLINE="1")
    assert code == 1
    assert "HF_HUB_OFFLINE is set and tiny/clip is not in the Hub's cache" in output
    assert command(None, models_dir, "add", str(tiny), "--id", "clip", HF_HUB_OFFLINE="1")[0] == 0


def test_the_command_lists_removes_and_refuses_what_is_built_in(tiny: Path, models_dir: Path) -> None:
    for taken in ("General", "Universal", "general-image-embedding", "general", "Empty"):
        code, output = command(None, models_dir, "add", str(tiny), "--id", taken)
        assert (code, "built-in" in output) == (1, True), output
    assert command(None, models_dir, "list") == (0, "")
    assert command(None, models_dir, "add", str(tiny), "--id", "clip", "--precision", "fp16")[0] == 0
    assert command(None, models_dir, "list") == (0, f"clip\t12\tfp16\tmit\t{tiny}\tUniversal\n")
    (models_dir / "clip" / "config.json").unlink()
    code, output = command(None, models_dir, "list")
    assert code == 1
    assert "config.json is missing" in output
    assert command(None, models_dir, "remove", "clip") == (0, "clip is removed\n")
    code, output = command(None, models_dir, "remove", "clip")
    assert (code, "There is no model clip" in output) == (1, True)
