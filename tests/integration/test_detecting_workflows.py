"""How workflows with a detector are put together: what they share, what runs which model, and what is said of those
that cannot run."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.drawn_face import drawn_face, jpeg
from tests.tiny_detector import DOG, PEOPLE, column, write_bundle

from sightrank.installed import InstalledModels, load_installed
from sightrank.vision.bundle import BundleError
from sightrank.vision.eye import Eye, ImageLimits
from sightrank.vision.threads import Lane, Threads

LIMITS = ImageLimits(max_bytes=2**22, max_pixels=2**22)
TAGGER, EMBEDDER = "general-image-recognition", "general-image-embedding"
THINGS, FACES = "general-image-detection", "face-detection"


@pytest.fixture(scope="module")
def threads() -> Iterator[Threads]:
    threads = Threads(1)
    yield threads
    threads.close()


@pytest.fixture(scope="module")
def installed(threads: Threads, tmp_path_factory: pytest.TempPathFactory) -> InstalledModels:
    """With a detector that finds a person and a dog in every picture."""
    folder = write_bundle(
        tmp_path_factory.mktemp("detector"),
        [column("man", PEOPLE), column("dog", DOG)],
        [[0.9, 0.0], [0.0, 0.6]],
        [(0.0, 0.0, 0.5, 1.0), (0.5, 0.2, 1.0, 0.8)],
    )
    return load_installed(threads, LIMITS, models_dir=Path("none"), detector_dir=folder)


def test_workflows_with_a_detector_have_generals_models_and_one_more(installed: InstalledModels) -> None:
    catalogue = installed.catalogue()

    models = {card.id: [model.id for model in card.models] for card in catalogue.workflows}
    assert models["General"] == [TAGGER, EMBEDDER]
    assert models["General-Detection"] == [TAGGER, EMBEDDER, THINGS]
    assert models["Face"] == [TAGGER, EMBEDDER, FACES]
    assert [term.name for term in catalogue.model(THINGS).concepts] == ["people", "dog"]
    assert [term.name for term in catalogue.model(FACES).concepts] == ["face"]
    assert catalogue.model(THINGS).version_id == "tiny"


def test_they_share_generals_networks_and_vectors(installed: InstalledModels) -> None:
    general, things, faces = installed.workflows

    assert general.eye.detector is None
    for workflow in (things, faces):
        assert workflow.eye.encoder is general.eye.encoder
        assert workflow.eye.tagger is general.eye.tagger
        assert workflow.eye.detector is not None
        assert workflow.space == general.space


def test_each_model_runs_by_an_eye_that_does_nothing_besides(installed: InstalledModels) -> None:
    runners = installed.runners()

    assert runners[TAGGER].detector is None
    assert runners[EMBEDDER].detector is None
    assert [runners[id].detector for id in (THINGS, FACES)] == [each.eye.detector for each in installed.workflows[1:]]


def test_an_app_changes_between_them_by_indexing_anew(installed: InstalledModels) -> None:
    catalogue = installed.catalogue()

    assert not catalogue.same_embedder("General", "Face")
    assert not catalogue.same_embedder("General-Detection", "Face")
    assert catalogue.same_embedder("Face", "Face")


def test_an_eye_cuts_out_what_its_detector_finds(installed: InstalledModels) -> None:
    async def seen(eye: Eye) -> tuple[int, list[str]]:
        prepared = await eye.prepare(jpeg(drawn_face()), (), Lane.INTERACTIVE, detect=True)
        return len(prepared.pixels), [found.concept_id for found in prepared.detections]

    async def all_seen() -> list[tuple[int, list[str]]]:
        return [await seen(workflow.eye) for workflow in installed.workflows]

    assert asyncio.run(all_seen()) == [(1, []), (3, [PEOPLE, DOG]), (2, ["ai_8jtPl3Xj"])]


def test_a_damaged_detector_stops_the_start(threads: Threads, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, [column("man", PEOPLE)], [[0.9]], [(0, 0, 1, 1)])
    (folder / "detector.onnx").write_bytes(b"")

    with pytest.raises(BundleError, match=r"detector.onnx is not the file its manifest describes"):
        load_installed(threads, LIMITS, models_dir=Path("none"), detector_dir=folder)


def test_a_detector_that_is_not_there_stops_the_start(threads: Threads, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest.json cannot be read"):
        load_installed(threads, LIMITS, models_dir=Path("none"), detector_dir=tmp_path)


_WITHOUT_OPENCV = """
import sys; sys.modules["cv2"] = None
import json
from pathlib import Path
from sightrank import doctor
from sightrank.errors import WorkflowNeedsModel
from sightrank.installed import load_installed
from sightrank.vision.eye import ImageLimits
from sightrank.vision.threads import Threads
threads = Threads(1)
limits = ImageLimits(max_bytes=2**20, max_pixels=2**20)
catalogue = load_installed(threads, limits, models_dir=Path("none")).catalogue()
alike = [catalogue.same_embedder(*pair) for pair in (("Face", "Empty"), ("Empty", "Universal"), ("Face", "Face"))]
alike += [catalogue.same_embedder("General", "General"), catalogue.same_embedder("Empty", "Empty")]
try: catalogue.usable_workflow("Face")
except WorkflowNeedsModel as error: said = str(error)
threads.close()
finding = doctor._detector_of_faces()
print(json.dumps([catalogue.workflow("Face").lacks, said, catalogue.find_model("face-detection") is None,
    catalogue.vocabulary.name("ai_8jtPl3Xj"), finding.well, finding.detail, alike]))
"""


def test_without_opencv_face_is_listed_with_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_OPENCV], capture_output=True, text=True, timeout=120, check=True
    )

    lacks, said, is_no_model, name, well, detail, alike = json.loads(done.stdout.splitlines()[-1])
    assert "pip install 'sightrank[faces]'" in lacks
    assert said == f"Workflow Face cannot run: {lacks}"
    assert (is_no_model, name, well) == (True, "face", True)
    assert alike == [False, False, False, True, True]
    assert "the workflow Face cannot run" in detail
    assert "pip install 'sightrank[faces]'" in detail
