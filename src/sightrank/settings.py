"""All settings, one table: each field is the environment variable ``SIGHTRANK_<NAME>`` and, where the command line has
the option, its default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def default_data_dir() -> Path:
    """Where data lives unless told otherwise.

    As root this is a system folder, because PostgreSQL then runs as a user of its own and must be able to walk there
    without opening anybody's home.
    """
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/sightrank")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "sightrank"


#: By what this machine reaches a server that listens on all of its addresses.
_LOOPBACK_OF_ALL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound


class Settings(BaseSettings):
    """What an operator can choose. Sizes are bytes unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="SIGHTRANK_", frozen=True, extra="ignore")

    data_dir: Path = Field(
        default_factory=default_data_dir, description="Folder of the database, images and credentials"
    )
    database_url: str = Field("", description="A PostgreSQL with pgvector to use instead of the embedded one")
    blob_url: str = Field(
        "", description="Folder for uploaded images, as a path or file:// URL; default <data-dir>/blobs"
    )
    public_url: str = Field(
        "",
        description="Base of hosted image URLs, as clients reach the server; default http://<host>:<http-port>, with"
        " 127.0.0.1 for 0.0.0.0, which other machines cannot open",
    )
    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 opens the server to the network")
    grpc_port: int = Field(18080, ge=0, le=65535, description="Plaintext gRPC")
    http_port: int = Field(8000, ge=0, le=65535, description="REST, and gRPC without TLS")
    tls_port: int | None = Field(None, ge=0, le=65535, description="REST and gRPC over TLS")
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM) for the TLS port")
    tls_key: Path | None = Field(None, description="Private key (PEM) for the TLS port")
    workers: int = Field(
        1, ge=0, le=64, description="Ingest workers inside the server; 0 leaves it to `sightrank worker`"
    )
    base_workflow: str = Field("General", description="Workflow of apps created without one")
    fetch_allow: str = Field("", description="Private CIDRs or hosts that image URLs may name, separated by commas")
    fetch_timeout_s: float = Field(60.0, gt=0, description="Longest time one image download may take")
    max_image_bytes: int = Field(20_000_000, gt=0, description="Largest image file")
    max_image_pixels: int = Field(85_000_000, gt=0, description="Largest image, width times height")
    infer_threads: int = Field(0, ge=0, description="Threads of the model; 0 takes the cores this process may use")
    infer_provider: Literal["cpu", "cuda"] = Field(
        "cpu", description="What models run on: `cpu`, or `cuda` with onnxruntime-gpu; never the other by itself"
    )
    models_dir: Path | None = Field(None, description="Folder of the models from the Hub; default <data-dir>/models")
    matrix_memory_bytes: int = Field(4_000_000_000, gt=0, description="Memory for vectors of apps being searched")
    ranker: Literal["auto", "exact", "graph", "sql"] = Field(
        "auto",
        description="How apps are ranked: `auto` by their size, or all by `exact` scans, by a `graph` of neighbours, or"
        " by PostgreSQL (`sql`)",
    )
    request_timeout_s: float = Field(60.0, gt=0, description="Longest time one API call may take")
    history_days: int = Field(
        0, ge=0, description="Days for which earlier versions of annotations are kept for as_of; 0 keeps them for ever"
    )
    log_level: str = Field("info", description="debug, info, warning or error")
    bootstrap_user_id: str = Field("", description="Id of the first user, instead of `admin`")
    bootstrap_app_id: str = Field("", description="Id of the first app, instead of `photos`")
    bootstrap_pat: str = Field("", description="Personal access token of the first user, instead of a random one")
    bootstrap_api_key: str = Field("", description="App key of the first app, instead of a random one")

    @field_validator("log_level")
    @classmethod
    def _known_log_level(cls, value: str) -> str:
        if value.lower() not in {"debug", "info", "warning", "error"}:
            raise ValueError("is one of debug, info, warning, error")
        return value.lower()

    @field_validator("blob_url")
    @classmethod
    def _folder(cls, value: str) -> str:
        """``s3://…`` must not become a folder of that name."""
        if "://" in value and not value.startswith("file:///"):
            raise ValueError(
                f"is {value}; it can be a path or file:///folder, this release stores images in folders only"
            )
        return value

    def blobs_dir(self) -> Path:
        if not self.blob_url:
            return self.data_dir / "blobs"
        is_url = self.blob_url.startswith("file://")
        return Path(unquote(self.blob_url.removeprefix("file://"))) if is_url else Path(self.blob_url)

    def models_path(self) -> Path:
        return self.models_dir or self.data_dir / "models"

    def http_base(self, port: int) -> str:
        """``http://host:port`` as a client on this machine writes it."""
        return f"http://{self.client_host()}:{port}"

    def client_host(self) -> str:
        """A host to connect to, for the address that is listened on."""
        name = _LOOPBACK_OF_ALL.get(self.host, self.host)
        return f"[{name}]" if ":" in name else name

    @property
    def names_this_machine_only(self) -> bool:
        """Whether the server is open to others, who are told URLs that only this machine can open."""
        return self.host in _LOOPBACK_OF_ALL and not self.public_url

    def fetch_allow_list(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.fetch_allow.split(",") if part.strip())


def wrong_settings(error: ValidationError) -> str:
    """What an operator set wrongly, in one line."""
    problems = "; ".join(
        f"SIGHTRANK_{str(e['loc'][0]).upper()} {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
    )
    return f"Wrong setting: {problems}"


def available_cores() -> int:
    """Cores this process may run on: its affinity, cut by a cgroup CPU quota, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
