"""A coordinator and a client on this machine and a client on an emulated board, over a broker on loopback."""

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from coordinator.broker import DevBroker
from coordinator.client_processes import ClientProcesses
from coordinator.journal import Journal
from coordinator.records import UpdateRecord
from coordinator.run_folder import RunFolder
from coordinator.watchdog import end_with_us
from shared.errors import DeadlineExceeded, RunError
from shared.signing import SigningKey
from tests.aarch64.board import COMMAND, PLACE, Board

BOARD, HERE = "board-arm64", "host"
ROUNDS = 3
CLASSES, RECORDINGS, SAMPLES, CHANNELS = 7, 14, 600, 6
LONGEST_SECONDS = 1800
STOP_SECONDS = 60.0
POLL_SECONDS = 0.5
TRAINER = b"edge_client.trainer_child"
TAIL_BYTES = 3000

JOB = f"""
name = "mixed"
task = "watch"
rounds = {ROUNDS}
[work]
steps = 4
batch_size = 16
[fleet]
minimum_devices = 2
minimum_updates = 2
gather_seconds = {LONGEST_SECONDS}
grace_seconds = 300
round_seconds = {LONGEST_SECONDS}
"""


@dataclass(frozen=True)
class Outcome:
    """Accepted updates by device, and what the board's client was seen to do."""

    accepted: list[UpdateRecord]
    refused: int
    trainer: str
    exit_code: int
    seconds: float
    peak_rss_mb: float

    @property
    def updates(self) -> dict[str, int]:
        """How many updates of each device count."""
        names = [update.device for update in self.accepted]
        return {name: names.count(name) for name in names}

    def lines(self) -> list[str]:
        """What was measured."""
        of_board = [update.facts for update in self.accepted if update.device == BOARD]
        frames = ", ".join(
            f"{facts.frame_bytes} bytes of {facts.key_values + facts.sparse_values} values" for facts in of_board
        )
        return [
            f"{len(self.accepted)} updates accepted, none refused, in {ROUNDS} rounds of {self.seconds:.0f} s together",
            f"of the board: {frames}; peak resident memory, the emulator's with it, {self.peak_rss_mb:.0f} MB",
            f"its trainer process: {self.trainer}",
        ]


class MixedFleet:
    """Broker, coordinator and two clients, alive inside the `with` block; all files are in the board's work folder."""

    names = (BOARD, HERE)

    def __init__(self, board: Board) -> None:
        self._board = board
        self._folder = board.work / "fleet"
        self._run = RunFolder(self._folder / "run")
        self._parts = ExitStack()

    def __enter__(self) -> Self:
        self._broker = self._parts.enter_context(DevBroker())
        key = SigningKey.generate()
        self._folder.mkdir()
        key.save(self._folder / "coordinator.key")
        (self._folder / "job.toml").write_text(JOB)
        trusted = key.verify_key.hex
        clients = ClientProcesses(self._folder, [HERE], self._broker.settings, trusted)
        for seed, name in enumerate(self.names):
            make_recordings(clients.data_folder(name), seed)
        self._parts.enter_context(clients)
        self._log = self._parts.enter_context((self._folder / "board.log").open("wb"))
        self._agent = self._start_agent(trusted)
        self._watchdog = end_with_us([self._agent.pid])
        return self

    def _start_agent(self, trusted: str) -> "subprocess.Popen[bytes]":
        own = f"{PLACE}/fleet/{BOARD}"
        command = [COMMAND, "run", "--name", BOARD, "--broker", self._broker.settings.address, "--trust", trusted]
        return self._board.start(*command, "--data", f"{own}/data", "--state", f"{own}/state", log=self._log)

    def train(self) -> Outcome:
        """Run the job to its end; raises `RunError` where coordinator or agent end early, `DeadlineExceeded`."""
        began, trainer, coordinator = time.monotonic(), "", self._start_coordinator()
        watchdog = end_with_us([coordinator.pid])
        try:
            while coordinator.poll() is None:
                trainer = trainer or trainer_of(self._agent.pid)
                self._check_going_on(time.monotonic() - began)
                time.sleep(POLL_SECONDS)
        finally:
            _end(watchdog)
            _end(coordinator)
        if coordinator.returncode:
            raise RunError(f"the coordinator ended with {coordinator.returncode}: {self._tail('coordinator.log')}")
        return self._outcome(trainer, time.monotonic() - began)

    def _start_coordinator(self) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "coordinator.main", "run", str(self._folder / "job.toml"), "--json"]
        command += ["--out", str(self._run.path), "--broker", self._broker.settings.address]
        environment = os.environ | {"GRADSIEVE_KEY_FILE": str(self._folder / "coordinator.key")}
        with (self._folder / "coordinator.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def said(self) -> str:
        """The last that the board's client printed."""
        return self._tail("board.log")

    def _check_going_on(self, seconds: float) -> None:
        if self._agent.poll() is not None:
            raise RunError(f"the client on the board ended with {self._agent.returncode}: {self.said()}")
        if seconds > LONGEST_SECONDS:
            raise DeadlineExceeded(f"{ROUNDS} rounds with an emulated board took more than {LONGEST_SECONDS} s")

    def _outcome(self, trainer: str, seconds: float) -> Outcome:
        journal = Journal.open(self._run.journal)
        try:
            run = journal.runs()[-1].run
            accepted, refused = journal.updates(run), sum(refusal.times for refusal in journal.refusals(run))
        finally:
            journal.close()
        peak = float(json.loads(self._run.summary.read_text())["client_peak_rss_mb_max"])
        return Outcome(accepted, refused, trainer, self._stop(), seconds, peak)

    def _stop(self) -> int:
        """Ask the client on the board to leave; its exit code."""
        self._agent.terminate()
        return self._agent.wait(STOP_SECONDS)

    def _tail(self, name: str) -> str:
        return (self._folder / name).read_bytes()[-TAIL_BYTES:].decode(errors="replace")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _end(self._watchdog)
        _end(self._agent)
        self._parts.close()


def make_recordings(folder: Path, seed: int) -> None:
    """Noisy sines of seven frequencies, one a class."""
    folder.mkdir(parents=True)
    random, times = np.random.default_rng(seed), np.arange(SAMPLES)[:, np.newaxis]
    for number in range(RECORDINGS):
        label = number % CLASSES
        x = np.sin(times * (label + 1) / 20 + np.arange(CHANNELS)) + 0.3 * random.standard_normal((SAMPLES, CHANNELS))
        np.savez(folder / f"series-{number:03}.npz", x=x.astype(np.float32), y=np.int64(label))


def trainer_of(pid: int) -> str:
    """The command line of the trainer among the children of an agent; empty while there is none."""
    try:
        lines = [Path(f"/proc/{child}/cmdline").read_bytes() for child in _children(pid)]
    except OSError:  # gone meanwhile
        return ""
    lines = [line for line in lines if TRAINER in line.split(b"\0")]
    return lines[0].rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace") if lines else ""


def _children(pid: int) -> list[str]:
    return [child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.kill()
    process.communicate()
