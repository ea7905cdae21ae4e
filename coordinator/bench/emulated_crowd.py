"""Our own emulator on the task `crowd`, as `gradsieve emulate` runs it, with a mark at the end of each round.

The engine `mosquitto` is the same fleet with a connection each to a real broker, in real time.
"""

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, cast

import numpy as np

from coordinator.bench.round_marks import RoundMarks
from coordinator.broker import DevBroker
from coordinator.emulation.emulation import Setup, emulated_run, live_run
from coordinator.emulation.preparer import Preparer
from coordinator.job import Fleet, Job, Split, Work
from coordinator.records import RoundRecord
from coordinator.run import Progress
from coordinator.run_folder import RunFolder

PROGRAM = (
    "import sys; from coordinator.emulation.preparer import Preparer; preparer = Preparer(); "
    "from coordinator.bench.emulated_crowd import main; main(preparer, *sys.argv[1:])"
)
"""For `python -c`: as `gradsieve emulate` does, it has torch loaded elsewhere while it loads what it needs itself."""

STEPS, RATE = 2, 0.15
MOSQUITTO = "mosquitto"


def job_of(clients: int, asked: int, rounds: int, batch_size: int) -> Job:
    """The bare loop's work with our default sieve, both ways."""
    return Job(
        name="crowd",
        task="crowd",
        rounds=rounds,
        work=Work(steps=STEPS, batch_size=batch_size, learning_rate=RATE, momentum=0.0),
        split=Split(kind="natural"),
        fleet=Fleet(participation=asked / clients, minimum_updates=asked, round_seconds=3600),
    )


def main(
    preparer: Preparer, data: str, clients: str, asked: str, rounds: str, workers: str, engine: str, batch: str = "32"
) -> None:
    """Rounds of `asked` clients out of `clients`, whose examples are in the folder `data`."""
    marks, begun = RoundMarks(), list[bool]()

    def on_progress(progress: Progress) -> None:
        if not begun and progress.server_round == 1:
            begun.append(True)
            marks.ready()

    def on_closed(record: RoundRecord) -> None:
        marks.mark()

    is_live = engine == MOSQUITTO
    setup = Setup(
        job_of(int(clients), int(asked), int(rounds), int(batch)),
        int(clients),
        Path(data),
        test_share=0.0,
        engine="onnx" if is_live else cast(Literal["onnx", "torch"], engine),
        workers=int(workers),
    )
    with ExitStack() as stack:
        path = stack.enter_context(tempfile.TemporaryDirectory(prefix="gradsieve-crowd-"))
        folder = RunFolder(Path(path))
        folder.begin(resume=False)
        if is_live:
            broker = stack.enter_context(DevBroker(program="mosquitto"))
            begun_run = live_run(setup, folder, broker.settings, on_progress, on_closed, preparer)
        else:
            begun_run = emulated_run(setup, folder, on_progress, on_closed, preparer)
        run = stack.enter_context(begun_run).run
        for server_round in range(1, int(rounds) + 1):
            run.play_round(server_round)
        figures = [record.figures for record in run.journal.rounds(run.id)]
        fewest = min(int(each.get("updates", 0)) for each in figures)
        marks.report(int(asked), figures[-1].get("train_loss"), fewest_updates=fewest)


def write_data(folder: Path, x: np.ndarray, y: np.ndarray, owner: np.ndarray | None) -> None:
    """What `--data` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("x", x), ("y", y), ("owner", owner)):
        if array is not None:
            np.save(folder / f"{name}.npy", array)
