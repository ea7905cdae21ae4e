"""Our own emulator on the task `crowd`, as `gradsieve emulate` runs it, with a mark at the end of each round."""

import sys
import tempfile
from pathlib import Path
from typing import Literal, cast

import numpy as np

from coordinator.bench.round_marks import RoundMarks
from coordinator.emulation.emulation import Setup, emulated_run
from coordinator.job import Fleet, Job, Split, Work
from coordinator.records import RoundRecord
from coordinator.run import Progress
from coordinator.run_folder import RunFolder

STEPS, RATE = 2, 0.15


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


def main(data: str, clients: str, asked: str, rounds: str, workers: str, engine: str, batch: str = "32") -> None:
    """Rounds of `asked` clients out of `clients`, whose examples are in the folder `data`."""
    marks, begun = RoundMarks(), list[bool]()

    def on_progress(progress: Progress) -> None:
        if not begun and progress.server_round == 1:
            begun.append(True)
            marks.ready()

    def on_closed(record: RoundRecord) -> None:
        marks.mark()

    setup = Setup(
        job_of(int(clients), int(asked), int(rounds), int(batch)),
        int(clients),
        Path(data),
        test_share=0.0,
        engine=cast(Literal["onnx", "torch"], engine),
        workers=int(workers),
    )
    with tempfile.TemporaryDirectory(prefix="gradsieve-crowd-") as path:
        folder = RunFolder(Path(path))
        folder.begin(resume=False)
        with emulated_run(setup, folder, on_progress, on_closed) as emulated:
            for server_round in range(1, int(rounds) + 1):
                emulated.run.play_round(server_round)
            losses = [r.figures.get("train_loss") for r in emulated.run.journal.rounds(emulated.run.id)]
            marks.report(int(asked), losses[-1])


def write_data(folder: Path, x: np.ndarray, y: np.ndarray, owner: np.ndarray | None) -> None:
    """What `--data` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("x", x), ("y", y), ("owner", owner)):
        if array is not None:
            np.save(folder / f"{name}.npy", array)


if __name__ == "__main__":
    main(*sys.argv[1:])
