from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.bench.heads import job_of, play
from coordinator.emulation.emulation import Setup, clusters_of, emulated_run
from coordinator.job import Fleet, Job, Split, Work
from coordinator.run_folder import RunFolder
from coordinator.tasks.drill import IMAGES_A_KIND
from shared.errors import SettingsError

HEADS, BOARDS, ROUNDS = 2, 2, 3
DIGITS = Job(
    name="small",
    task="digits",
    rounds=3,
    work=Work(steps=4, batch_size=8, learning_rate=0.05),
    split=Split(kind="dirichlet", alpha=0.5),
    fleet=Fleet(round_seconds=120),
)


def digest_and_names(setup: Setup, path: Path) -> tuple[str, set[str]]:
    folder = RunFolder(path)
    folder.begin(resume=False)
    with emulated_run(setup, folder) as found:
        found.run.execute()
        return found.run.strategy.model.digest, {device.name for device in found.run.devices()}


@pytest.mark.broker
def test_emulated_heads_make_the_model_of_heads_and_boards_that_are_processes(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = play(tmp_path / "real", HEADS, BOARDS, ROUNDS, kill_in=0, images_a_kind=IMAGES_A_KIND)
    setup = Setup(job_of(HEADS, ROUNDS), clusters=(BOARDS,) * HEADS)
    assert digest_and_names(setup, tmp_path / "emulated")[0] == real["model"]


def test_boards_without_a_head_stay_devices_of_the_coordinator(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the task digits needs scikit-learn")
    setup = Setup(DIGITS, 8, clusters=(3, 2), workers=1)
    digest, names = digest_and_names(setup, tmp_path / "one")
    assert names == {"head-00000", "head-00001", "client-00005", "client-00006", "client-00007"}
    assert digest_and_names(replace(setup, workers=3), tmp_path / "three") == (digest, names)


def test_more_boards_behind_heads_than_there_are_devices_are_refused() -> None:
    with pytest.raises(SettingsError, match="5 boards behind heads, and 4 devices in all"):
        clusters_of(("a", "b", "c", "d"), (3, 2))
