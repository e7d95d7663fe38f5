"""Faces: where they are in a picture, of any size, in any thread."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.contract.pictures import PHOTOS
from tests.drawn_face import HEAD, SIZE, drawn_face

from sightrank.vision.detector import Detection
from sightrank.vision.faces import FACE, FaceDetector
from sightrank.vision.vocabulary import LANGUAGES

needs_photos = pytest.mark.skipif(not PHOTOS.is_file(), reason=f"the photographs are not at {PHOTOS}")


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector()


def photo(name: str) -> NDArray[np.uint8]:
    with zipfile.ZipFile(PHOTOS) as archive:
        return np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))


def middle(found: Detection) -> tuple[float, float]:
    """Across and down, in shares of the picture."""
    return (found.box.left + found.box.right) / 2, (found.box.top + found.box.bottom) / 2


def test_a_face_is_found_where_it_is(detector: FaceDetector) -> None:
    (face,) = detector.detect(drawn_face())

    across, down = middle(face)
    assert face.concept_id == FACE.id
    assert 0.85 <= face.value <= 1.0
    assert across == pytest.approx((HEAD[0] + HEAD[2]) / 2 / SIZE[0], abs=0.05)
    assert down == pytest.approx((HEAD[1] + HEAD[3]) / 2 / SIZE[1], abs=0.1)


def test_faces_are_where_they_are_in_a_large_picture_too(detector: FaceDetector) -> None:
    large = np.asarray(Image.fromarray(drawn_face()).resize((2400, 1800)))
    beside = np.concatenate([large, large[:, ::-1]], axis=1)

    left, right = sorted(detector.detect(beside), key=lambda face: face.box.left)

    assert middle(left)[0] == pytest.approx(0.25, abs=0.03)
    assert middle(right)[0] == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("size", [(1, 1, 3), (2, 4000, 3), (4000, 1, 3), (480, 640, 3)])
def test_a_picture_without_faces_has_none_whatever_its_size(detector: FaceDetector, size: tuple[int, ...]) -> None:
    assert detector.detect(np.full(size, 90, np.uint8)) == []


def test_the_number_of_faces_is_bounded(detector: FaceDetector) -> None:
    crowd = np.tile(np.asarray(Image.fromarray(drawn_face()).resize((106, 80))), (6, 6, 1))

    faces = detector.detect(crowd)

    assert len(faces) == 20
    assert [face.value for face in faces] == sorted((face.value for face in faces), reverse=True)


def test_threads_side_by_side_find_what_one_finds(detector: FaceDetector) -> None:
    pictures = [np.roll(drawn_face(), shift, axis=1) for shift in range(-80, 90, 20)]
    alone = [detector.detect(pixels) for pixels in pictures]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.detect, pictures * 3))

    assert together == alone * 3
    assert all(len(faces) == 1 for faces in alone)


def test_the_concept_is_clarifais_and_has_a_name_in_every_language() -> None:
    assert (FACE.id, FACE.name) == ("ai_8jtPl3Xj", "face")
    assert tuple(FACE.names) == LANGUAGES


def test_without_opencv_there_is_no_detector_and_the_error_says_why() -> None:
    program = (
        "import sys; sys.modules['cv2'] = None\n"
        "from sightrank.vision.faces import FaceDetector\n"
        "try: FaceDetector()\n"
        "except ImportError as error: print(error.name)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "cv2"


@needs_photos
def test_a_portrait_has_one_face_and_a_landscape_none(detector: FaceDetector) -> None:
    (face,) = detector.detect(photo("000069.jpg"))

    assert middle(face) == pytest.approx((0.49, 0.365), abs=0.03)
    assert detector.detect(photo("000000.jpg")) == []


@needs_photos
def test_few_places_without_a_face_are_taken_for_one(detector: FaceDetector) -> None:
    """Nobody is on these photographs; one place in them may look like a face all the same."""
    without = [f"{number:06}.jpg" for number in (1, 2, 3, 4, 6, 13, 15, 16, 18, 20, 21, 25, 31, 32, 34, 37, 39, 40)]

    assert sum(len(detector.detect(photo(name))) for name in without) <= 1
