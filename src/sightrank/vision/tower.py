"""One tower of a dual encoder from the Hub: a network, the inputs it takes, and the output that is its vector."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sightrank.vision.bundle import BundleError
from sightrank.vision.session import first_line

_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
}

_KNOWN_INPUTS = ("pixel_values", "input_ids", "attention_mask", "token_type_ids")


class Tower:
    """``session`` runs the network at ``path``; ``wanted`` is the output's usual name, ``pooler_output`` stands in
    for it. Safe to call from several threads.
    """

    def __init__(self, session: onnxruntime.InferenceSession, path: Path, *, wanted: str) -> None:
        self.path = path
        self._session = session
        self.provider: str = self._session.get_providers()[0]
        self._shapes = {each.name: each.shape for each in self._session.get_inputs()}
        self._dtypes = {
            each.name: _DTYPES[each.type]
            for each in self._session.get_inputs()
            if each.name in _KNOWN_INPUTS and each.type in _DTYPES
        }
        unknown = [name for name in self._shapes if name not in self._dtypes]
        if unknown:
            raise BundleError(f"{path} wants inputs that sightrank cannot give it: {', '.join(unknown)}.")
        self._output = self._vector_output(wanted)
        # In a network with both towers, only the one that is asked for is run.
        self._options = onnxruntime.RunOptions()
        self._options.only_execute_path_to_fetches = True

    def fixed(self, name: str, axis: int) -> int | None:
        """The length of that axis of an input where the network fixes it."""
        shape = self._shapes.get(name, [])
        length = shape[axis] if axis < len(shape) else None
        return length if isinstance(length, int) else None

    def run(self, values: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Unit vectors [n, dims]. Values the network has no input for are left out."""
        feed = {name: np.ascontiguousarray(values[name], dtype) for name, dtype in self._dtypes.items()}
        try:
            vectors = np.asarray(self._session.run([self._output], feed, self._options)[0], np.float32)
        except Exception as error:  # ONNX Runtime has an exception class of its own for every reason
            raise BundleError(f"{self.path} failed: {first_line(error)}.") from error
        if vectors.ndim != 2:
            raise BundleError(f"{self.path}: {self._output} has shape {vectors.shape}, not one vector for each input.")
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not (np.isfinite(lengths) & (lengths > 0)).all():
            raise BundleError(f"{self.path}: {self._output} is all zeros or not finite. Try another --precision.")
        return np.asarray(vectors / lengths, np.float32)

    def _vector_output(self, wanted: str) -> str:
        names = [each.name for each in self._session.get_outputs()]
        for name in (wanted, "pooler_output"):
            if name in names:
                return name
        raise BundleError(f"{self.path} has neither the output {wanted} nor pooler_output; it has {', '.join(names)}.")
