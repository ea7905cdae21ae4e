import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coordinator.assembly import assembled_run
from coordinator.broker import DevBroker
from coordinator.client_processes import ClientProcesses
from coordinator.emulation.emulation import EmulatedRun, Setup, emulated_run, live_run
from coordinator.emulation.outcome import Outcome
from coordinator.job import Fleet, Job, Split, Work
from coordinator.run_entry import signing_key
from coordinator.run_folder import RunFolder
from coordinator.settings import CoordinatorSettings
from coordinator.tasks.drill import DRILL
from coordinator.tasks.task import export_folder
from shared.device_profile import Battery, DeviceProfile
from shared.errors import DeadlineExceeded, RunError, SettingsError

pytest.importorskip("sklearn", reason="the task digits needs scikit-learn")

DIGITS = Job(
    name="small",
    task="digits",
    rounds=3,
    work=Work(steps=4, batch_size=8, learning_rate=0.05),
    split=Split(kind="dirichlet", alpha=0.5),
    fleet=Fleet(participation=0.5, round_seconds=120),
)
SLOW = DeviceProfile(name="slow", gflops=0.5, step_seconds=0.01, spread=0.2, up_kbit=100, latency_seconds=0.1)


@contextmanager
def emulated(setup: Setup, path: Path) -> Iterator[EmulatedRun]:
    folder = RunFolder(path)
    folder.begin(resume=False)
    with emulated_run(setup, folder) as run:
        yield run


def outcome(setup: Setup, path: Path) -> dict[str, object]:
    with emulated(setup, path) as found:
        return Outcome.of(found, found.run.execute(), 0.0).figures


def test_the_same_job_gives_the_same_model_whatever_the_number_of_workers(tmp_path: Path) -> None:
    crashing = SLOW.model_copy(update={"crash_chance": 0.2, "restart_seconds": 5.0, "mean_hours_online": 0.01,
                                       "mean_hours_offline": 0.002})  # fmt: skip
    found = [
        outcome(Setup(DIGITS, 12, profiles=(SLOW, crashing), workers=workers), tmp_path / str(workers))
        for workers in (1, 3)
    ]
    same = ("model_digest", "virtual_seconds", "crashes", "uplink_bytes", "downlink_bytes", "accuracy", "updates")
    assert [found[0][key] for key in same] == [found[1][key] for key in same]
    assert int(str(found[0]["crashes"])) > 0
    assert float(str(found[0]["virtual_seconds"])) > 1.0


def test_a_device_too_slow_for_its_order_sends_the_steps_it_had_time_for(tmp_path: Path) -> None:
    slow = DeviceProfile(name="slow", step_seconds=40.0)
    with emulated(Setup(DIGITS.model_copy(update={"rounds": 1}), 4, profiles=(slow,)), tmp_path) as found:
        found.run.execute()
        steps = {update.facts.steps for update in found.run.journal.updates(found.run.id)}
    assert steps == {3}, "of four steps of 40 s, three begin within 120 s"


def test_devices_with_an_empty_battery_are_given_no_work(tmp_path: Path) -> None:
    drained = Battery(capacity_watt_hours=0.001, training_watts=10.0, least_share=0.5)
    profile = DeviceProfile(name="drained", step_seconds=5.0, battery=drained)
    job = DIGITS.model_copy(update={"rounds": 2, "fleet": Fleet(gather_seconds=30, round_seconds=60)})
    with emulated(Setup(job, 3, profiles=(profile,)), tmp_path) as found:
        with pytest.raises(DeadlineExceeded, match="waited 30 s for 1 devices, 0 are online"):
            found.run.execute()
        assert {round_.server_round for round_ in found.run.journal.rounds(found.run.id)} == {1}


def test_a_fleet_that_is_killed_ends_the_run_with_a_reason(tmp_path: Path) -> None:
    with emulated(Setup(DIGITS, 4), tmp_path) as found:
        os.kill(found.process.pid, signal.SIGKILL)
        with pytest.raises(RunError, match="the emulated fleet has ended"):
            found.run.execute()


def test_a_task_with_its_own_clients_is_not_dealt_to_more(tmp_path: Path) -> None:
    job = DIGITS.model_copy(update={"task": "drill"})
    with pytest.raises(RunError, match="task drill has 4 clients"), emulated(Setup(job, 5), tmp_path):
        pass


def test_the_command_prints_a_summary_for_scripts(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text('name = "cli"\ntask = "digits"\nrounds = 1\n[work]\nsteps = 2\n')
    command = [sys.executable, "-m", "coordinator.main", "emulate", str(job), "--clients", "5", "--device", "pi-4=0.5"]
    command += ["--device", "nb-iot=0.5", "--out", str(tmp_path / "out"), "--json"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    figures = json.loads(said)
    assert (figures["clients"], figures["rounds"]) == (5, 1)
    assert figures["virtual_seconds"] > 1.0
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.broker
def test_emulated_devices_and_separate_processes_make_the_same_model(tmp_path: Path) -> None:
    job = Job(name="same", task="drill", rounds=2, work=Work(steps=3, batch_size=16), fleet=Fleet(minimum_devices=4))
    with emulated(Setup(job), tmp_path / "emulated") as found:
        found.run.execute()
        emulated_digest = found.run.strategy.model.digest
    assert _digest_of_processes(job, tmp_path / "real") == emulated_digest


def _digest_of_processes(job: Job, path: Path) -> str:
    folder, recordings = RunFolder(path), {client.name: client for client in DRILL.clients()}
    folder.begin(resume=False)
    with DevBroker() as broker:
        settings = CoordinatorSettings(broker=broker.settings, key_file=path / "own.key")
        trusted = signing_key(settings.key_file).verify_key.hex
        clients = ClientProcesses(path / "clients", sorted(recordings), broker.settings, trusted)
        for name, client in recordings.items():
            export_folder(client, clients.data_folder(name))
        with clients, assembled_run(job, folder, settings) as run:
            run.execute()
            return run.strategy.model.digest


@pytest.mark.broker
def test_a_fleet_on_a_real_broker_makes_the_model_of_the_emulated_one(tmp_path: Path) -> None:
    job = DIGITS.model_copy(update={"rounds": 2, "fleet": Fleet(minimum_devices=20)})
    with emulated(Setup(job, 20), tmp_path / "emulated") as found:
        found.run.execute()
        digest = found.run.strategy.model.digest
    folder = RunFolder(tmp_path / "live")
    folder.begin(resume=False)
    with DevBroker() as broker, live_run(Setup(job, 20), folder, broker.settings) as live:
        final = live.run.execute()
        assert live.run.strategy.model.digest == digest
        assert Outcome.of(live, final, 1.0).sentence() == ""


def test_torch_is_refused_where_the_task_names_no_module(tmp_path: Path) -> None:
    job = Job(name="same", task="drill", rounds=1)
    with pytest.raises(SettingsError, match="--engine torch"), emulated(Setup(job, engine="torch"), tmp_path):
        pass
