"""What towers from the Hub share, and what SigLIP's family asks of its texts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.tiny_models import write_tiny_model

from sightrank.vision import hub_encoder
from sightrank.vision.hub_encoder import DualEncoder, load_dual_encoder
from sightrank.vision.session import open_session


def load(folder: Path) -> DualEncoder:
    return load_dual_encoder(folder, threads=1)


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def case_matters(encoder: DualEncoder) -> bool:
    upper, lower = encoder.texts.encode(["A DOG", "a dog"])
    return float(upper @ lower) < 0.999


@pytest.mark.parametrize("tokenizer_class", ["GemmaTokenizer", "GemmaTokenizerFast", "Siglip2Tokenizer"])
def test_siglip_2_reads_lower_case_although_its_tokenizer_does_not_say_so(tmp_path: Path, tokenizer_class: str) -> None:
    folder = write_tiny_model(tmp_path, "siglip")
    change(folder / "tokenizer.json", normalizer=None)
    assert case_matters(load(folder))

    change(folder / "tokenizer_config.json", tokenizer_class=tokenizer_class)

    assert not case_matters(load(folder))


def test_a_mask_that_an_export_of_siglip_wants_hides_no_padding(tmp_path: Path) -> None:
    plain = load(write_tiny_model(tmp_path / "plain", "siglip"))
    masked = load(write_tiny_model(tmp_path / "masked", "siglip", attention_mask=True))

    np.testing.assert_allclose(masked.texts.encode(["a dog"]), plain.texts.encode(["a dog"]), atol=1e-5)


@pytest.mark.parametrize(("combined", "networks"), [(True, 1), (False, 2)])
def test_a_network_with_both_towers_is_opened_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, combined: bool, networks: int
) -> None:
    opened: list[str] = []

    def counted(path: Path, **options: object) -> object:
        opened.append(path.name)
        return open_session(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(hub_encoder, "open_session", counted)
    load(write_tiny_model(tmp_path, "clip", combined=combined))

    assert len(opened) == networks
