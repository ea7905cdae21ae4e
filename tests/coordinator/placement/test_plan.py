import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from coordinator.job import load_job
from coordinator.main import app
from coordinator.placement.advice import advise
from coordinator.placement.pilot import Ground, Pilot, Trial
from coordinator.placement.sites import Site, read_question
from shared.errors import RunError, SettingsError

JOB = """
name = "small"
task = "digits"
rounds = 15
[work]
steps = 20
batch_size = 16
learning_rate = 0.05
"""
QUESTION = """
job = "job.toml"
accuracy = 0.75
intervals = [20]
[[site]]
name = "barn"
boards = 4
[[site]]
name = "field"
boards = 2
[[site]]
name = "silo"
boards = 2
can_host = false
"""


def write(folder: Path, question: str = QUESTION) -> Path:
    (folder / "job.toml").write_text(JOB)
    path = folder / "placement.toml"
    path.write_text(question)
    return path


def test_a_forecast_with_heads_is_near_what_the_emulator_then_finds(tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the task digits needs scikit-learn")
    done = CliRunner().invoke(app, ["plan", str(write(tmp_path)), "--check", "--json", "--workers", "1"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["advice"]["heads"] == ["barn", "field"]
    for forecast, emulated in ((each["forecast"], each["emulated"]) for each in found["checked"]):
        assert emulated["rounds"] == pytest.approx(forecast["rounds"], abs=1)
        assert emulated["moved_bytes"] == pytest.approx(forecast["moved_bytes"], rel=0.2)
    with_heads, without = (each["emulated"]["moved_bytes"] for each in found["checked"][:2])
    assert with_heads < 0.7 * without
    assert found["checked"][2]["forecast"]["heads"] == ["barn"]  # of two that no pilot had alone


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('name = "silo"', 'name = "barn"', "two sites have the same name"),
        ("boards = 4", "boards = 0", "site.0.boards"),
        ("[20]", "[20, 20]", "intervals are different numbers"),
        ("boards = 4", "boards = 4000", "at most 1000"),
        ("accuracy = 0.75", "accuracy = 75", "accuracy"),
        ("job =", "jobs =", "job"),
    ],
)
def test_a_question_that_cannot_be_meant_is_refused_by_name(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = write(tmp_path, QUESTION.replace(old, new, 1))
    with pytest.raises(SettingsError, match=complaint):
        read_question(path)


class Slow(Ground):
    """Never gets anywhere."""

    def play(self, trial: Trial, on_round: object = None) -> Pilot:
        return Pilot(trial, None, 0.4, 1.0, 1.0, 1.0)


def test_heads_count_as_devices_and_may_have_the_examples_of_all_their_boards(tmp_path: Path) -> None:
    write(tmp_path)
    job = load_job(tmp_path / "job.toml")
    fleet = job.fleet.model_copy(update={"minimum_devices": 10, "minimum_updates": 2, "largest_examples": 100})
    tried = Trial(5, (4, 3)).job(job.model_copy(update={"fleet": fleet}), 10).fleet
    assert (tried.minimum_devices, tried.minimum_updates, tried.largest_examples) == (5, 2, 400)


def test_a_job_whose_devices_tell_no_accuracy_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    random = np.random.default_rng(1)
    np.save(tmp_path / "x.npy", random.standard_normal((6, 64), np.float32))
    np.save(tmp_path / "y.npy", np.arange(6))
    two_each = Ground(load_job(tmp_path / "job.toml"), 3, 0.9, data=tmp_path)
    with pytest.raises(RunError, match="nobody tells an accuracy in round 1"):
        two_each.play(Trial(2))


def test_an_accuracy_out_of_reach_is_an_error_that_says_how_far_it_came(tmp_path: Path) -> None:
    write(tmp_path)
    ground = Slow(load_job(tmp_path / "job.toml"), 4, 0.9)
    with pytest.raises(RunError, match=r"no interval reaches 0\.9 in the job's 15 rounds, the best 0\.400"):
        advise([Site(name="barn", boards=4)], [5, 20], ground, lambda *what: None)
