"""What transformers makes of the tiny models: the independent reference for encoders from the Hub.

python -m tests.hub_reference        writes tests/golden/hub_vectors.json (needs transformers and torch)
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tests.tiny_models import FAMILIES, TEXTS, random_weights, shape_of, tiny_pictures, write_tiny_model

GOLDEN = Path(__file__).parent / "golden" / "hub_vectors.json"


def reference_vectors(folder: Path, family: str, *, seed: int = 7, width: int = 16) -> dict[str, list[list[float]]]:
    """Unit vectors of the tiny pictures and texts: configuration, tokenizer and preprocessing from the same folder."""
    import torch
    import transformers
    from PIL import Image

    kinds: dict[str, Any] = {
        "clip": (transformers.CLIPConfig, transformers.CLIPModel, transformers.CLIPImageProcessorPil),
        "siglip": (transformers.SiglipConfig, transformers.SiglipModel, transformers.SiglipImageProcessorPil),
    }
    config, model_class, processor_class = kinds[family]
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    weights = random_weights(shape_of(family, tokenizer.backend_tokenizer, width), seed)
    model = model_class(config.from_pretrained(folder)).eval()
    found = model.load_state_dict({name: torch.from_numpy(each) for name, each in weights.items()}, strict=False)
    assert not found.unexpected_keys
    assert set(found.missing_keys) <= {"logit_scale", "logit_bias"}
    processor = processor_class.from_pretrained(folder)
    pictures = [Image.fromarray(each) for each in tiny_pictures()]
    # SigLIP was trained on texts of full length; CLIP reads a text at its end and sees nothing behind.
    padding = "max_length" if family == "siglip" else "longest"
    tokens = tokenizer(list(TEXTS), padding=padding, truncation=True, return_tensors="pt")
    with torch.no_grad():
        images = model.get_image_features(**processor(images=pictures, return_tensors="pt"))
        mask = {"attention_mask": tokens["attention_mask"]} if family == "clip" else {}
        texts = model.get_text_features(input_ids=tokens["input_ids"], **mask)
    return {"image": _unit(images), "text": _unit(texts)}


def _unit(found: Any) -> list[list[float]]:
    vectors = getattr(found, "pooler_output", found).numpy().astype(np.float64)
    return [[round(float(x), 6) for x in row] for row in vectors / np.linalg.norm(vectors, axis=1, keepdims=True)]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        vectors = {
            family: reference_vectors(write_tiny_model(Path(folder) / family, family), family) for family in FAMILIES
        }
    GOLDEN.parent.mkdir(exist_ok=True)
    rows = {
        family: {kind: [json.dumps(row) for row in rows] for kind, rows in kinds.items()}
        for family, kinds in vectors.items()
    }
    GOLDEN.write_text(json.dumps(rows, indent=1).replace('"[', "[").replace(']"', "]") + "\n")


if __name__ == "__main__":
    main()
