"""Edge clients as separate processes on this machine, each with its own data, state folder and log."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from coordinator.watchdog import end_with_us
from shared.settings import BrokerSettings

STOP_SECONDS = 10.0


@dataclass
class ClientProcesses:
    """Starts `gradsieve-edge run` for each of `names`; everything is below `folder`.

    They are ended, by id, at the end of the block, and those it began with also when this process is killed. A
    `launcher` is put before their command: it must replace itself by it, as `exec` does. They trust the keys in
    `more_trusted` as well.
    """

    folder: Path
    names: list[str]
    broker: BrokerSettings
    trusted_key: str
    launcher: Sequence[str] = ()
    more_trusted: Sequence[str] = ()
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _logs: list[IO[bytes]] = field(default_factory=list)
    _watchdog: subprocess.Popen[bytes] | None = None

    def data_folder(self, name: str) -> Path:
        """Where a client's recordings are to be put before it is started."""
        return self.folder / name / "data"

    def log_file(self, name: str) -> Path:
        """What a client printed."""
        return self.folder / name / "client.log"

    def start(self, name: str) -> int:
        """Start one client, again if it has ended, and return its process id."""
        if name in self._processes:
            self._processes[name].wait(STOP_SECONDS)
        own = self.folder / name
        own.mkdir(parents=True, exist_ok=True)
        log = self.log_file(name).open("ab")
        self._logs.append(log)
        command = [*self.launcher, sys.executable, "-m", "edge_client.main", "run", "--name", name]
        command += ["--broker", self.broker.address]
        command += ["--data", str(self.data_folder(name)), "--state", str(own / "state"), "--trust", self.trusted_key]
        for key in self.more_trusted:
            command += ["--trust", key]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        process = subprocess.Popen(  # noqa: S603  our own program
            command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        self._processes[name] = process
        return process.pid

    def pid(self, name: str) -> int:
        """Process id of a client that was started."""
        return self._processes[name].pid

    def ended(self) -> dict[str, int]:
        """Exit codes of the clients that ended by themselves; negative is the signal that did it."""
        return {name: p.returncode for name, p in self._processes.items() if p.poll() is not None}

    def stop(self) -> None:
        """Ask every client to leave, and kill those that have not after ten seconds."""
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self._processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for log in self._logs:
            log.close()

    def __enter__(self) -> Self:
        self._watchdog = end_with_us([self.start(name) for name in self.names])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
