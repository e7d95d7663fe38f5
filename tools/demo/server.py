"""A `sightrank serve` of the demo's own: started, waited for, stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from tools.demo import DemoError

HOST = "127.0.0.1"
READY_WITHIN_S = 180.0
STOPPED_WITHIN_S = 30.0

#: Straight to this machine, whatever proxy the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What the server wrote at its first start."""

    pat: str
    api_key: str
    user_id: str
    app_id: str


def read_credentials(path: Path) -> Credentials:
    """Reads ``credentials.env``: lines ``[export ]NAME=value``."""
    values: dict[str, str] = {}
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise DemoError(f"The server's credentials cannot be read: {error}. Was it started by another user?") from error
    for line in lines:
        name, separator, value = line.strip().removeprefix("export ").partition("=")
        if separator and not name.startswith("#"):
            values[name.strip()] = value.strip().strip("\"'")
    try:
        return Credentials(
            pat=values["CLARIFAI_PAT"],
            api_key=values["CLARIFAI_API_KEY"],
            user_id=values["CLARIFAI_USER_ID"],
            app_id=values["CLARIFAI_APP_ID"],
        )
    except KeyError as error:
        raise DemoError(f"{path} has no {error.args[0]}. Delete its folder to let the demo begin anew.") from error


class Server:
    """One `sightrank serve` process over one data directory; its output goes to a log file."""

    def __init__(self, command: list[str], *, data_dir: Path, log: Path, fetch_allow: str = "") -> None:
        self.data_dir = data_dir
        self.log = log
        self.grpc_port = _port("SIGHTRANK_GRPC_PORT", 18080)
        self.http_port = _port("SIGHTRANK_HTTP_PORT", 8000)
        self.environment = os.environ | {
            "SIGHTRANK_DATA_DIR": str(data_dir),
            "SIGHTRANK_HOST": HOST,
            "SIGHTRANK_GRPC_PORT": str(self.grpc_port),
            "SIGHTRANK_HTTP_PORT": str(self.http_port),
            "SIGHTRANK_FETCH_ALLOW": ",".join(filter(None, (os.environ.get("SIGHTRANK_FETCH_ALLOW"), fetch_allow))),
        }
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def http_base(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    @property
    def grpc_base(self) -> str:
        return f"{HOST}:{self.grpc_port}"

    def start(self) -> None:
        """Starts the server and returns when it is ready.

        It gets a session of its own, so that Ctrl-C reaches the demo only and the demo ends it in good order.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.log.unlink(missing_ok=True)
            self.log.touch(mode=0o600)  # the first start prints the keys
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(
                    [*self._command, "serve"],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise DemoError(
                f"`{self._command[0]}` cannot be started: {error}. Run `make demo` to install it."
            ) from error
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._healthy():
            self.require_alive()
            if time.monotonic() > deadline:
                raise self.failure(f"The server was not ready within {READY_WITHIN_S:.0f} s.")
            time.sleep(0.1)
        self.require_alive()

    def require_alive(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise self.failure("The server ended by itself.")

    def wait(self) -> None:
        """Returns when the server ends."""
        assert self._process is not None
        self._process.wait()

    def stop(self) -> None:
        """Asks the server to end, waits for it, and ends it by force when it does not."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def failure(self, what: str) -> DemoError:
        """``what`` with the last lines of the log, where the reason is."""
        try:
            last = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
        except OSError:
            last = ""
        text = f"{what} The end of its log ({self.log}):\n\n{last or '(empty)'}\n\n"
        return DemoError(text + "Put right what it says and run `make demo` again.")

    def exports(self) -> str:
        """What `sightrank env` prints for this server."""
        try:
            done = subprocess.run(
                [*self._command, "env"], env=self.environment, capture_output=True, text=True, timeout=60, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise self.failure(f"`sightrank env` failed: {getattr(error, 'stderr', '') or error}.") from error
        return done.stdout.strip()

    def _healthy(self) -> bool:
        try:
            with DIRECT.open(f"{self.http_base}/healthz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False


def sightrank_command() -> list[str]:
    """The program installed beside the Python that runs this."""
    return [str(Path(sys.executable).parent / "sightrank")]


def bypass_proxies() -> None:
    """Keeps clients that read the proxy variables, such as gRPC, from sending local calls through a proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), HOST, "localhost")))


def _port(variable: str, usual: int) -> int:
    """The port the caller asked for; else the usual one; else, when that is in use, any free one."""
    asked = os.environ.get(variable)
    if asked:
        if not asked.isdigit() or not _free(int(asked)):
            raise DemoError(f"Port {asked} ({variable}) is in use or no port. Choose another, or unset {variable}.")
        return int(asked)
    if _free(usual):
        return usual
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
