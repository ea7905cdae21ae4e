"""`python -m coordinator.bench.heads`: a fleet of three levels, and a head that is killed in mid-round.

A coordinator, heads, and boards below each, all processes of their own, each site with a broker of its own. In one
round a head is killed with -9 once some of its boards' updates are in its journal, and started again. Then every
journal is read: what was counted, how often, and whether the final model is that of a run in which nothing happened.
"""

import argparse
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from coordinator.assembly import assembled_run
from coordinator.bench.load import load_before
from coordinator.bench.process_tree import end
from coordinator.bench.result import Claim, Row, write_result
from coordinator.broker import DevBroker
from coordinator.client_processes import ClientProcesses
from coordinator.job import Fleet, Job, Sieve, Work
from coordinator.records import RoundRecord
from coordinator.run_entry import signing_key
from coordinator.run_folder import RunFolder
from coordinator.settings import CoordinatorSettings
from coordinator.tasks.drill import clients as drill_clients
from coordinator.tasks.task import export_folder
from shared.errors import RunError
from shared.settings import BrokerSettings
from shared.signing import SigningKey

IMAGES_A_KIND = 8
WAIT_SECONDS = 120.0


@dataclass
class Head:
    """A head's process, its site's broker and its boards; all end with the block that `site` is."""

    name: str
    folder: Path
    upstream: BrokerSettings
    trusted: str
    boards: int
    broker: DevBroker
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Start the process, again if it was killed."""
        state = self.folder / "state"
        command = [sys.executable, "-m", "edge_client.main", "head", "--name", self.name, "--state", str(state)]
        command += ["--broker", self.upstream.address, "--site-broker", self.broker.settings.address]
        command += ["--trust", self.trusted, "--boards", str(self.boards), "--grace-seconds", "60"]
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with (self.folder / "head.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | one_thread)  # noqa: S603

    def kill(self) -> None:
        """End the process as a power cut does."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def accepted(self) -> list[tuple[int, str]]:
        """Round and board of every update in the site's journal, from a connection of its own."""
        file = self.folder / "state" / "site.sqlite"
        if not file.exists():
            return []
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=10)) as journal:
            try:
                return list(journal.execute("SELECT server_round, device FROM accepted ORDER BY server_round, device"))
            except sqlite3.OperationalError:  # its tables are not made yet
                return []


@contextmanager
def site(
    number: int, boards: int, folder: Path, upstream: BrokerSettings, trusted: str, images_a_kind: int = IMAGES_A_KIND
) -> Iterator[Head]:
    """A head with its broker and boards, running."""
    folder.mkdir(parents=True)
    state = folder / "state"
    state.mkdir()
    key = SigningKey.generate()
    key.save(state / "site.key")
    recordings = drill_clients(number * boards + boards, images_a_kind)[number * boards :]
    with DevBroker() as broker:
        head = Head(f"head-{number}", folder, upstream, trusted, boards, broker)
        own = ClientProcesses(
            folder / "boards",
            [client.name for client in recordings],
            broker.settings,
            trusted,
            more_trusted=[key.verify_key.hex],
        )
        for client in recordings:
            export_folder(client, own.data_folder(client.name))
        with own:
            head.start()
            try:
                yield head
            finally:
                if head.process is not None:
                    end(head.process)


def job_of(heads: int, rounds: int) -> Job:
    """A few rounds of the drill with all heads."""
    return Job(
        name="heads",
        task="drill",
        rounds=rounds,
        work=Work(steps=4, batch_size=16, learning_rate=0.05),
        sieve=Sieve(budget_bytes=2000),
        fleet=Fleet(
            minimum_devices=heads, minimum_updates=heads, grace_seconds=120, gather_seconds=240, round_seconds=300
        ),
    )


def play(folder: Path, heads: int, boards: int, rounds: int, kill_in: int, images_a_kind: int = IMAGES_A_KIND) -> Row:
    """One run from nothing; in round `kill_in` the first head is killed when some of its boards are counted."""
    began = time.monotonic()
    with ExitStack() as stack:
        broker = stack.enter_context(DevBroker())
        settings = CoordinatorSettings(broker=broker.settings, key_file=folder / "coordinator.key")
        trusted = signing_key(settings.key_file).verify_key.hex
        fleet = [
            stack.enter_context(
                site(number, boards, folder / f"site-{number}", broker.settings, trusted, images_a_kind)
            )
            for number in range(heads)
        ]
        run_folder = RunFolder(folder / "run")
        run_folder.begin(resume=False)
        closed: list[RoundRecord] = []
        job = job_of(heads, rounds)
        with assembled_run(job, run_folder, settings, on_closed=closed.append) as run:
            killer = _Killer(fleet[0], boards, kill_in)
            stack.enter_context(killer.watching())
            final = run.execute()
            upstream = [(u.server_round, u.device) for u in run.journal.updates(run.id)]
            examples = [u.facts.examples for u in run.journal.updates(run.id)]
            digest = run.strategy.model.digest
        below = [entry for head in fleet for entry in head.accepted()]
        return {
            "heads": heads, "boards": heads * boards, "rounds": rounds, "killed_in_round": killer.killed_in,
            "counted_when_killed": killer.counted, "board_updates": len(below), "distinct": len(set(below)),
            "head_updates": len(upstream), "distinct_head_updates": len(set(upstream)),
            "examples_a_round": sorted({sum(examples[n * heads : (n + 1) * heads]) for n in range(rounds)}),
            "model": digest, "accuracy": final.get("accuracy"), "seconds": round(time.monotonic() - began, 1),
        }  # fmt: skip


class _Killer:
    """Looks at a head's journal, kills the head in the middle of a round, and starts it again."""

    def __init__(self, head: Head, boards: int, kill_in: int) -> None:
        self._head, self._boards, self._kill_in = head, boards, kill_in
        self.killed_in = self.counted = 0
        self._stop = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look on during the block."""
        thread = threading.Thread(target=self._look_on, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop = True
            thread.join(WAIT_SECONDS)

    def _look_on(self) -> None:
        while self._kill_in and not self._stop:
            counted = sum(server_round == self._kill_in for server_round, _ in self._head.accepted())
            if 0 < counted < self._boards:
                self._head.kill()
                self.killed_in, self.counted = self._kill_in, counted
                self._head.start()
                return
            if counted == self._boards:
                raise RunError(f"round {self._kill_in} was over before anybody could be killed in it: use more boards")
            time.sleep(0.01)


def claims_of(rows: Sequence[Row]) -> list[Claim]:
    """What the run with the kill lost or counted twice, at both levels; and is its model the undisturbed one."""
    calm, killed = rows
    boards, heads, rounds = (int(str(killed[key])) for key in ("boards", "heads", "rounds"))
    below, above = int(str(killed["board_updates"])), int(str(killed["head_updates"]))
    distinct = int(str(killed["distinct"])), int(str(killed["distinct_head_updates"]))
    return [
        Claim("board updates lost", boards * rounds - distinct[0], 0, 0, "lower"),
        Claim("head updates lost", heads * rounds - distinct[1], 0, 0, "lower"),
        Claim("updates counted twice, both levels", below - distinct[0] + above - distinct[1], 0, 0, "lower"),
        Claim(
            "examples a round as without the kill (1: yes)",
            float(calm["examples_a_round"] == killed["examples_a_round"]),
            1,
            1,
            "higher",
        ),
        Claim("same model as without the kill (1: yes)", float(calm["model"] == killed["model"]), 1, 1, "higher"),
        Claim("killed in mid-round (1: yes)", float(bool(killed["killed_in_round"])), 1, 1, "higher"),
    ]


def main() -> None:
    """Play a calm run and one with a kill, and write the result."""
    parser = argparse.ArgumentParser(prog="scripts/bench heads", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two heads of three boards")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/heads.json"))
    chosen = parser.parse_args()
    heads, boards, rounds = (2, 3, 3) if chosen.quick else (4, 10, 4)
    load, rows = load_before(), list[Row]()
    for kill_in in (0, 2):
        with tempfile.TemporaryDirectory(prefix="gradsieve-heads-") as folder:
            rows.append(play(Path(folder), heads, boards, rounds, kill_in))
            print(json.dumps(rows[-1]), flush=True)
    command = f"scripts/bench heads{' --quick' if chosen.quick else ''}"
    write_result(chosen.out, "heads", command, [1], rows, claims_of(rows), {"load": load})


if __name__ == "__main__":
    main()
