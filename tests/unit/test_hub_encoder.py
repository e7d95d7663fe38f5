"""Encoders from the Hub see and read as transformers does with the same files (tests/hub_reference.py)."""

from __future__ import annotations

import importlib.util
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests import hub_reference
from tests.tiny_models import FAMILIES, SIDE, TEXTS, tiny_pictures, write_tiny_model

from sightrank.vision.bundle import BundleError
from sightrank.vision.hub_encoder import DualEncoder, Link, load_dual_encoder, read_link
from sightrank.vision.hub_files import choose_files

LOWEST_COSINE = 0.999
GOLDEN = json.loads(hub_reference.GOLDEN.read_text())
WITHOUT_REFERENCE = "transformers and torch are not installed, so the reference cannot be computed again"


def load(folder: Path, precision: str | None = None) -> DualEncoder:
    return load_dual_encoder(folder, threads=1, precision=precision)


def seen(encoder: DualEncoder) -> NDArray[np.float32]:
    return encoder.images.embed(np.stack([encoder.images.fit(each) for each in tiny_pictures()]))


def cosines(left: Any, right: Any) -> NDArray[np.float64]:
    return (np.asarray(left, np.float64) * np.asarray(right, np.float64)).sum(axis=1)


@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_and_texts_have_the_vectors_of_the_reference(tmp_path: Path, family: str) -> None:
    encoder = load(write_tiny_model(tmp_path, family))
    assert cosines(seen(encoder), GOLDEN[family]["image"]).min() >= LOWEST_COSINE
    assert cosines(encoder.texts.encode(TEXTS), GOLDEN[family]["text"]).min() >= LOWEST_COSINE


@pytest.mark.skipif(
    not (importlib.util.find_spec("transformers") and importlib.util.find_spec("torch")), reason=WITHOUT_REFERENCE
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_the_committed_vectors_are_those_of_the_reference(tmp_path: Path, family: str) -> None:
    again = hub_reference.reference_vectors(write_tiny_model(tmp_path, family), family)
    for kind, vectors in again.items():
        assert cosines(vectors, GOLDEN[family][kind]).min() >= 0.99999


@pytest.mark.parametrize("family", FAMILIES)
def test_the_reference_tells_pictures_and_texts_apart(family: str) -> None:
    """Else any vector would pass the comparison."""
    for kind in ("image", "text"):
        vectors = np.asarray(GOLDEN[family][kind])
        between = (vectors @ vectors.T)[~np.eye(len(vectors), dtype=bool)]
        assert between.max() < 0.99


@pytest.mark.parametrize(
    "change",
    [
        {"resample": 0},
        {"size": {"shortest_edge": 50}},
        {"size": {"height": 32, "width": 32}},
        {"do_center_crop": False, "size": {"height": 32, "width": 32}},
        {"image_mean": [0.0, 0.0, 0.0]},
        {"image_std": [1.0, 1.0, 1.0]},
        {"do_normalize": False},
        {"do_rescale": False},
    ],
    ids=str,
)
def test_every_step_of_preprocessing_changes_the_vectors(tmp_path: Path, change: dict[str, Any]) -> None:
    encoder = load(write_tiny_model(tmp_path, "clip", preprocessor=change))
    assert cosines(seen(encoder), GOLDEN["clip"]["image"]).min() < LOWEST_COSINE


def test_a_number_is_the_shorter_side_where_the_middle_is_cut_out(tmp_path: Path) -> None:
    encoder = load(write_tiny_model(tmp_path, "clip", preprocessor={"size": 36, "crop_size": SIDE}))
    assert cosines(seen(encoder), GOLDEN["clip"]["image"]).min() >= LOWEST_COSINE


def test_a_model_without_normalisation_sees_shares_of_255(tmp_path: Path) -> None:
    plain = write_tiny_model(
        tmp_path / "plain", preprocessor={"do_normalize": False, "image_mean": None, "image_std": None}
    )
    zero = write_tiny_model(tmp_path / "zero", preprocessor={"image_mean": [0, 0, 0], "image_std": [1, 1, 1]})
    assert np.allclose(seen(load(plain)), seen(load(zero)), atol=1e-5)


@pytest.mark.parametrize("form", [(1, 1), (1, 3000), (3000, 2), (31, 33), (7, 500)])
def test_pictures_of_any_form_fit(tmp_path: Path, form: tuple[int, int]) -> None:
    encoder = load(write_tiny_model(tmp_path, "clip"))
    fitted = encoder.images.fit(np.full((*form, 3), 200, np.uint8))
    assert fitted.shape == (SIDE, SIDE, 3)
    assert (fitted == 200).all()


def test_a_picture_smaller_than_what_is_cut_out_lies_in_black(tmp_path: Path) -> None:
    encoder = load(write_tiny_model(tmp_path, "clip", preprocessor={"do_resize": False}))
    fitted = encoder.images.fit(np.full((10, 40, 3), 9, np.uint8))
    assert fitted.shape == (SIDE, SIDE, 3)
    assert (fitted[11:21] == 9).all()
    assert fitted.sum() == 10 * SIDE * 3 * 9


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_do_not_depend_on_who_else_is_in_the_batch(tmp_path: Path, family: str) -> None:
    encoder = load(write_tiny_model(tmp_path, family))
    pictures = np.stack([encoder.images.fit(each) for each in tiny_pictures()])
    many = np.concatenate([pictures] * 4)
    assert np.allclose(
        encoder.images.embed(many)[:5], [encoder.images.embed(each[None])[0] for each in pictures], atol=1e-5
    )
    alone = [encoder.texts.encode([text])[0] for text in TEXTS]
    assert np.allclose(encoder.texts.encode(TEXTS * 4)[: len(TEXTS)], alone, atol=1e-5)
    assert encoder.texts.encode([]).shape == (0, encoder.texts.dims)


@pytest.mark.parametrize("family", FAMILIES)
def test_vectors_have_length_one(tmp_path: Path, family: str) -> None:
    encoder = load(write_tiny_model(tmp_path, family))
    for vectors in (seen(encoder), encoder.texts.encode(TEXTS)):
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_siglip_always_gets_its_full_length_and_clip_only_what_it_needs(tmp_path: Path) -> None:
    siglip = load(write_tiny_model(tmp_path / "siglip", "siglip"))
    clip = load(write_tiny_model(tmp_path / "clip", "clip"))
    assert siglip.texts.tokens(["a"])[0].shape == (1, 64)
    assert clip.texts.tokens(["a"])[0].shape == (1, 8)


def test_padding_changes_what_siglip_reads(tmp_path: Path) -> None:
    """The padding token comes from the files: another one must not pass for it."""
    folder = write_tiny_model(tmp_path, "siglip")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": "<pad>"}))
    assert cosines(load(folder).texts.encode(TEXTS), GOLDEN["siglip"]["text"]).min() < LOWEST_COSINE


def test_a_shorter_limit_changes_what_is_read_of_long_texts_only(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path, "clip")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 12}))
    found = cosines(load(folder).texts.encode(TEXTS), GOLDEN["clip"]["text"])
    assert found[4] >= LOWEST_COSINE
    assert found[5] < LOWEST_COSINE


@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_files_that_only_some_models_have_can_be_missing(tmp_path: Path, name: str) -> None:
    folder = write_tiny_model(tmp_path, "siglip")
    (folder / name).unlink()
    assert cosines(load(folder).texts.encode(TEXTS), GOLDEN["siglip"]["text"]).min() >= LOWEST_COSINE


@pytest.mark.parametrize(
    "options",
    [
        {"combined": True},
        {"combined": True, "attention_mask": True},
        {"attention_mask": True},
        {"external": True},
        {"half": True, "suffix": "_fp16"},
        {"suffix": "_quantized"},
    ],
    ids=str,
)
def test_every_layout_gives_the_same_vectors(tmp_path: Path, options: dict[str, Any]) -> None:
    encoder = load(write_tiny_model(tmp_path, "clip", **options))
    assert cosines(seen(encoder), GOLDEN["clip"]["image"]).min() >= LOWEST_COSINE
    assert cosines(encoder.texts.encode(TEXTS), GOLDEN["clip"]["text"]).min() >= LOWEST_COSINE


def test_the_fullest_precision_is_taken_unless_another_is_named(tmp_path: Path) -> None:
    write_tiny_model(tmp_path, "clip", suffix="_quantized", seed=8)
    write_tiny_model(tmp_path, "clip", suffix="_fp16", half=True)
    assert load(tmp_path).precision == "fp16"
    write_tiny_model(tmp_path, "clip")
    assert load(tmp_path).precision == "fp32"
    other = load(tmp_path, "quantized")
    assert other.precision == "quantized"
    assert cosines(seen(other), GOLDEN["clip"]["image"]).min() < LOWEST_COSINE


def test_what_is_no_dual_encoder_is_refused_by_name() -> None:
    full = ["config.json", "preprocessor_config.json", "tokenizer.json", "onnx/model.onnx", "pytorch_model.bin"]
    assert choose_files(full, source="it").files == tuple(full[:4])
    data = ["onnx/model.onnx_data", "onnx/model.onnx_data_1"]
    odd = ["onnx/model.onnx_data/../../x", "onnx/model_fp16.onnx_data", "onnx/model.onnx_database"]
    assert choose_files([*full, *data, *odd], source="it").files == (*full[:4], *data)
    with pytest.raises(BundleError, match=r"it has no tokenizer\.json"):
        choose_files([name for name in full if name != "tokenizer.json"], source="it")
    with pytest.raises(BundleError, match=r"neither onnx/vision_model\.onnx"):
        choose_files([*full[:3], "onnx/vision_model.onnx"], source="it")
    with pytest.raises(BundleError, match="no networks at precision int8; it has fp32"):
        choose_files(full, source="it", precision="int8")
    with pytest.raises(BundleError, match="no precision tiny"):
        choose_files(full, source="it", precision="tiny")


def test_towers_of_different_spaces_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "a")
    other = write_tiny_model(tmp_path / "b", width=20)
    (folder / "onnx" / "text_model.onnx").write_bytes((other / "onnx" / "text_model.onnx").read_bytes())
    with pytest.raises(BundleError, match="vectors of 12 numbers and texts of 16"):
        load(folder)


def test_a_network_without_a_vector_names_its_outputs(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path)
    vision = (folder / "onnx" / "vision_model.onnx").read_bytes()
    (folder / "onnx" / "text_model.onnx").write_bytes(vision)
    with pytest.raises(
        BundleError, match=r"text_model\.onnx has neither .*text_embeds nor pooler_output; it has image_emb"
    ):
        load(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"size": None}, "size is missing"),
        ({"image_mean": [0.5]}, "image_mean is not three numbers"),
        ({"image_std": [0, 1, 1]}, "image_std is not above 0"),
        ({"size": {"shortest_edge": -1}}, "-1 is not a side"),
        ({"do_center_crop": False}, "would not all become squares"),
        ({"resample": 77}, "77 is not a valid Resampling"),
        ({"crop_size": {"height": 40, "width": 40}}, "takes pictures of 32 pixels"),
    ],
)
def test_wrong_preprocessing_is_told(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    folder = write_tiny_model(tmp_path, preprocessor=change)
    with pytest.raises(BundleError, match=reason):
        load(folder)


@pytest.mark.parametrize(
    "name", ["onnx/vision_model.onnx", "tokenizer.json", "config.json", "preprocessor_config.json"]
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    folder = write_tiny_model(tmp_path)
    (folder / name).write_bytes(b"nonsense")
    with pytest.raises(BundleError, match=Path(name).name):
        load(folder)


def test_cuda_is_refused_where_it_is_not_and_never_replaced(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path)
    with pytest.raises(BundleError, match=r"SIGHTRANK_INFER_PROVIDER is cuda, but this onnxruntime has only"):
        load_dual_encoder(folder, threads=1, provider="cuda")
    assert load(folder).images.provider == "CPUExecutionProvider"


def test_links_come_from_the_configuration_else_from_the_family() -> None:
    assert read_link({"model_type": "clip"}) == Link(scale=100.0, bias=None)
    assert read_link({"model_type": "siglip"}) == Link(scale=117.33, bias=-12.93)
    assert read_link({"model_type": "siglip2", "logit_scale": 110.0, "logit_bias": -16}) == Link(
        scale=110.0, bias=-16.0
    )
    assert read_link({"logit_scale": 4.6052}).scale == pytest.approx(100.0, abs=0.01)


def test_many_threads_get_the_vectors_of_one(tmp_path: Path) -> None:
    encoder = load(write_tiny_model(tmp_path))
    expected_texts, expected_pictures = encoder.texts.encode(TEXTS), seen(encoder)
    wrong: list[str] = []

    def work() -> None:
        for _ in range(10):
            if not np.allclose(encoder.texts.encode(TEXTS), expected_texts, atol=1e-5):
                wrong.append("text")
            if not np.allclose(seen(encoder), expected_pictures, atol=1e-5):
                wrong.append("picture")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []
