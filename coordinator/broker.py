"""A broker of one's own for demos, tests and single-machine runs: `mosquitto` if installed, else `iotcore`."""

import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from coordinator.watchdog import end_with_us
from shared.errors import BrokerUnreachable, SettingsError
from shared.settings import BrokerSettings

HOST = "127.0.0.1"
START_SECONDS = 15.0
STOP_SECONDS = 3.0
POLL_SECONDS = 0.01
STDERR_TAIL_BYTES = 2000
MAX_PACKET_BYTES = 262_144

BrokerProgram = Literal["mosquitto", "iotcore"]

MOSQUITTO_CONFIG = """\
listener {port} {host}
allow_anonymous true
per_listener_settings false
persistence false
max_packet_size {max_packet_bytes}
max_queued_messages 10000
set_tcp_nodelay true
log_dest stderr
log_type error
log_type warning
"""

# Its default listener speaks MQTT 3.1.1 only, and its default log keeps a gigabyte in memory for each filter.
IOTCORE_CONFIG = """\
id = 0

[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 8388608
max_segment_count = 4

[v5.1]
name = "v5-1"
listen = "{host}:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {max_packet_bytes}
max_inflight_count = 100
"""


class DevBroker:
    """An anonymous broker on the loopback interface, alive inside the `with` block and never after this process.

    Nothing it holds survives `restart`. Raises `SettingsError` when no broker is installed or the port is taken, and
    `BrokerUnreachable` when the program does not start listening.
    """

    def __init__(self, port: int | None = None, program: BrokerProgram | None = None) -> None:
        self.program = program or _installed_program()
        self._port = port or _free_port()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._broker: subprocess.Popen[bytes] | None = None
        self._watchdog: subprocess.Popen[bytes] | None = None

    @property
    def settings(self) -> BrokerSettings:
        """How to reach it."""
        return BrokerSettings(host=HOST, port=self._port)

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._broker.pid if self._broker is not None and self.alive() else None

    def alive(self) -> bool:
        """Whether the broker's process runs."""
        return self._broker is not None and self._broker.poll() is None

    def restart(self) -> None:
        """Stop it and start an empty one on the same port."""
        self.stop()
        self.start()

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        _check_port_is_free(self._port)
        self._folder = tempfile.TemporaryDirectory(prefix="gradsieve-broker-")
        folder = Path(self._folder.name)
        with (folder / "stderr").open("wb") as stderr:
            self._broker = subprocess.Popen(  # noqa: S603 -- a fixed program with our own arguments
                self._command(folder),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
                start_new_session=True,  # an interrupt from the keyboard is for us: we say goodbye first
            )
        self._watchdog = end_with_us([self._broker.pid], folder)
        try:
            self._wait_until_listening(folder / "stderr")
        except BrokerUnreachable:
            self.stop()
            raise

    def stop(self) -> None:
        """End it; safe to call twice."""
        if self._watchdog is not None:  # first, lest it signals a process id that is no longer the broker's
            _end(self._watchdog, signal.SIGKILL)
            self._watchdog = None
        if self._broker is not None:
            _end(self._broker, signal.SIGTERM)
            self._broker = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self, folder: Path) -> list[str]:
        config = MOSQUITTO_CONFIG if self.program == "mosquitto" else IOTCORE_CONFIG
        file = folder / "broker.toml"  # iotcore goes by the suffix, mosquitto does not mind
        file.write_text(config.format(host=HOST, port=self._port, max_packet_bytes=MAX_PACKET_BYTES))
        if self.program == "mosquitto":
            return [_mosquitto() or "mosquitto", "-c", str(file)]
        return [sys.executable, "-P", "-m", "iotcore", "--config", str(file), "--log-level", "CRITICAL"]

    def _wait_until_listening(self, stderr: Path) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self.alive() and time.monotonic() < deadline:
            try:
                socket.create_connection((HOST, self._port), timeout=1.0).close()
            except OSError:
                time.sleep(POLL_SECONDS)
            else:
                return
        how = f"did not listen within {START_SECONDS:g} s" if self.alive() else "ended before it listened"
        said = stderr.read_bytes()[-STDERR_TAIL_BYTES:].decode(errors="replace").strip() or "nothing"
        raise BrokerUnreachable(f"{self.program} for {HOST}:{self._port} {how}; it said: {said}")


def _installed_program() -> BrokerProgram:
    if _mosquitto() is not None:
        return "mosquitto"
    if importlib.util.find_spec("iotcore") is not None:
        return "iotcore"
    raise SettingsError(
        "no MQTT broker is installed: install one with 'apt install mosquitto' or 'pip install iotcore', "
        "or name a running broker in broker.host and broker.port"
    )


def _mosquitto() -> str | None:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _check_port_is_free(port: int) -> None:
    try:
        socket.create_server((HOST, port)).close()
    except OSError as error:
        raise SettingsError(
            f"port {port} on {HOST} cannot be used ({error.strerror}): stop what listens there, or give another port"
        ) from error


def _end(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    process.send_signal(how)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()
