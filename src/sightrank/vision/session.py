"""ONNX Runtime sessions, opened alike for every network, on the provider that was asked for and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import onnxruntime

from sightrank.vision.bundle import BundleError

Provider = Literal["cpu", "cuda"]

_PROVIDERS: dict[Provider, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def open_session(path: Path, *, threads: int, provider: Provider = "cpu") -> onnxruntime.InferenceSession:
    """Opens a network. ``threads`` is the number of cores one run may use.

    Raises BundleError when the file is no network that can run, or when ``provider`` is not the one it would run on.
    """
    wanted = _PROVIDERS[provider]
    available = onnxruntime.get_available_providers()
    if wanted not in available:
        raise BundleError(
            f"SIGHTRANK_INFER_PROVIDER is {provider}, but this onnxruntime has only {', '.join(available)}. Install"
            f" one with {wanted}, or set the variable to cpu."
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would take the cores that decoding and PostgreSQL need between two batches.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), sess_options=options, providers=[wanted])
    except Exception as error:  # ONNX Runtime has an exception class of its own for every reason
        raise BundleError(f"{path} cannot be run: {first_line(error)}.") from error
    session.disable_fallback()
    used = session.get_providers()[0]
    if used != wanted:
        raise BundleError(
            f"{path} would run on {used}, not on {wanted} as SIGHTRANK_INFER_PROVIDER={provider} asks. Check the"
            " driver and libraries of the device, or set the variable to cpu."
        )
    return session


def first_line(error: Exception) -> str:
    """What a library's error says, short enough for one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:300]
