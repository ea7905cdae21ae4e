"""The process of an emulated fleet, started early, for it loads its libraries while the bundle is made."""

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from shared.virtual_link import PacketStream

ANSWER_SECONDS = 1200.0
STOP_SECONDS = 10.0
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class FleetProcess:
    """Starts `edge_client.fleet.main` with so many workers; what it prints goes to a log file.

    It ends with the block, and by itself when this process is killed, for then its socket ends.
    """

    def __init__(self, workers: int, log_file: Path, engine: Literal["onnx", "torch"]) -> None:
        self._ours, theirs = socket.socketpair()
        self._ours.settimeout(ANSWER_SECONDS)
        self.stream = PacketStream(self._ours)
        command = [sys.executable, "-m", "edge_client.fleet.main", "--socket", str(theirs.fileno())]
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own program
                [*command, "--workers", str(workers), "--engine", engine],
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                env=os.environ | ONE_THREAD,
            )
        theirs.close()

    @property
    def pid(self) -> int:
        """The id of the fleet's process; its workers are its children."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stream.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
