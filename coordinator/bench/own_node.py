"""Our edge client as a node of the device benchmark: agent and trainer, over mosquitto, against a real coordinator."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from coordinator.bench.control_group import ControlGroup
from coordinator.bench.node_run import NodeRun
from coordinator.bench.node_task import NodeTask
from coordinator.bench.process_tree import Watch, end
from coordinator.broker import DevBroker
from coordinator.client_processes import ClientProcesses
from coordinator.run_entry import signing_key
from coordinator.tasks.task import export_folder

NAME = "board"
JOB = """\
name = "{name}"
task = "drill"
rounds = {rounds}
[work]
steps = {steps}
batch_size = {batch_size}
learning_rate = {learning_rate}
final_learning_rate = {learning_rate}
[sieve]
budget_bytes = {budget_bytes}
[fleet]
round_seconds = 300
"""
BUDGET_BYTES = 1000


def measure_own_node(task: NodeTask, folder: Path, group: ControlGroup | None) -> dict[str, object]:
    """The figures of one client that serves two jobs: one that trains, and one of a single step a round."""
    key = signing_key(folder / "coordinator.key")
    with DevBroker(program="mosquitto") as broker:
        launcher = group.launcher if group else ()
        boards = ClientProcesses(folder, [NAME], broker.settings, key.verify_key.hex, launcher)
        export_folder(task.client(), boards.data_folder(NAME))
        with boards, Watch(boards.pid(NAME)) as watch:
            node = NodeRun(watch, lambda: 0, group)
            node.measure_idle()
            for name, steps in (("training", task.steps), ("one-step", 1)):
                _serve(task, folder, broker.settings.address, name, steps, node)
                node.note_peaks()
    return node.figures


def _serve(task: NodeTask, folder: Path, address: str, name: str, steps: int, node: NodeRun) -> None:
    """One job; the figures of its rounds go under its name."""
    with _coordinator(task, folder, address, name, steps) as coordinator:
        journal = folder / name / "journal.sqlite"
        run = NodeRun(node.watch, _accepted(journal), node.group)
        rounds = run.wait(task.rounds, task.seconds, lambda: coordinator.poll() is None)
    cost = run.a_round(task.warm_up, task.rounds) if rounds else None
    node.figures[f"{name.replace('-', '_')}_rounds"] = _accepted(journal)()
    if cost is None:
        return
    if steps == 1:
        node.figures["cpu_seconds_a_round_of_one_step"] = round(cost[0], 3)
    else:
        node.figures["cpu_seconds_a_round"] = round(cost[0], 3)
        node.figures["written_bytes_a_round"] = round(cost[1])
        node.figures["frame_bytes"] = _frame_bytes(journal)


@contextmanager
def _coordinator(
    task: NodeTask, folder: Path, address: str, name: str, steps: int
) -> Iterator["subprocess.Popen[bytes]"]:
    job = folder / f"{name}.toml"
    job.write_text(
        JOB.format(
            name=name,
            rounds=task.rounds,
            steps=steps,
            batch_size=task.batch_size,
            learning_rate=task.learning_rate,
            budget_bytes=BUDGET_BYTES,
        )
    )
    command = [sys.executable, "-m", "coordinator.main", "run", str(job), "--out", str(folder / name)]
    environment = os.environ | {"GRADSIEVE_KEY_FILE": str(folder / "coordinator.key")}
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  our own program
            [*command, "--broker", address], stdout=log, stderr=log, env=environment
        )
        try:
            yield process
        finally:
            end(process)


def _accepted(journal: Path) -> Callable[[], int]:
    """Updates in a journal so far; 0 while there is none."""
    return lambda: _query(journal, "SELECT count(*) FROM accepted")


def _frame_bytes(journal: Path) -> int:
    return _query(journal, "SELECT max(json_extract(facts_json, '$.frame_bytes')) FROM accepted")


def _query(journal: Path, question: str) -> int:
    if not journal.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as reader:
            return int(reader.execute(question).fetchone()[0] or 0)
    except sqlite3.OperationalError:
        return 0
