"""The demo: a broker, a coordinator and ten client processes on this machine, on real data, with honest baselines."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from coordinator.assembly import assembled_run
from coordinator.broker import DevBroker
from coordinator.client_processes import ClientProcesses
from coordinator.fleet import Device
from coordinator.job import Job, Sieve, load_job
from coordinator.live_table import LiveTable
from coordinator.run import Run
from coordinator.run_entry import signing_key
from coordinator.run_folder import RunFolder
from coordinator.settings import CoordinatorSettings
from coordinator.summary import FleetTraffic, peak_rss_mb, run_figures, write_json
from coordinator.tasks.baselines import alone_accuracies, pooled_accuracy
from coordinator.tasks.registry import task_by_name
from coordinator.tasks.task import Task, export_folder
from shared.errors import RunError

POOLED_STEPS = 1200
ALONE_STEPS = 200
MARKER = ".gradsieve-demo"
"""Only a folder with this file in it is ever emptied."""
WATCH_JOB = Path(__file__).parent / "tasks" / "watch.toml"


@dataclass(frozen=True)
class Baselines:
    """What the same model reaches without federation, on everybody's test windows."""

    pooled: float
    alone_mean: float


@dataclass(frozen=True)
class DenseProbe:
    """One real round with the dense codec: what an update and a device's download cost without the sieve."""

    uplink_bytes_an_update: float
    downlink_bytes_a_device: float


@dataclass(frozen=True)
class Fleet:
    """The finished run's figures and traffic, and the devices as they were at its end."""

    figures: dict[str, object]
    traffic: FleetTraffic
    devices: list[Device]


class Demo:
    """Runs a job's own task on this machine and writes summary and report into `folder`, which is emptied first."""

    def __init__(self, folder: Path, job: Job, console: Console) -> None:
        self.folder = RunFolder(folder)
        self._job = job
        self._table = LiveTable(f"gradsieve demo: {job.name}", job.rounds, console=console)
        self._say = self._table.say
        self._task = task_by_name(job.task)

    def run(self) -> dict[str, object]:
        """Everything from data to report; returns what `summary.json` holds."""
        began = time.monotonic()
        self._empty()
        with DevBroker() as broker:
            settings = CoordinatorSettings(broker=broker.settings, key_file=self.folder.path / "coordinator.key")
            clients = self._clients(settings)
            self._say(f"broker {broker.program} at {broker.settings.address}, {len(clients.names)} client processes")
            with clients:
                baselines = self._baselines(len(clients.names))
                fleet = self._federate(settings)
                probe = self._probe(settings, fleet.devices)
        figures = _summary(fleet, baselines, probe) | {"wall_seconds": round(time.monotonic() - began, 1)}
        write_json(self.folder.summary, figures)
        return figures

    def _empty(self) -> None:
        path = self.folder.path
        if path.exists() and any(path.iterdir()) and not (path / MARKER).exists():
            raise RunError(f"{path} is not empty and no demo made it: choose another --out")
        if path.exists():
            shutil.rmtree(path)
        path.mkdir(parents=True)
        (path / MARKER).touch()

    def _clients(self, settings: CoordinatorSettings) -> ClientProcesses:
        recordings = {client.name: client for client in self._task.clients()}
        trusted = signing_key(settings.key_file).verify_key.hex
        clients = ClientProcesses(self.folder.path / "clients", sorted(recordings), settings.broker, trusted)
        for name, client in recordings.items():
            export_folder(client, clients.data_folder(name))
        return clients

    def _baselines(self, clients: int) -> Baselines:
        self._say(f"baselines without federation: pooled {POOLED_STEPS} steps, each alone {ALONE_STEPS} steps")
        with self._table.console.status("training what to compare with") as status:
            baselines = measure_baselines(
                self._task,
                self._job.seed,
                lambda ready: status.update(f"{ready} of {clients + 1} baseline models ready"),
            )
        self._say(f"pooled {baselines.pooled:.3f}, alone {baselines.alone_mean:.3f} on everybody's test windows")
        return baselines

    def _federate(self, settings: CoordinatorSettings) -> Fleet:
        table = self._table
        with assembled_run(self._job, self.folder, settings, table.progress, table.closed) as run, table.shown():
            table.dense_update_bytes = 4 * run.strategy.layout.size
            fleet = _fleet(run, run.execute())
            run.finish()
            return fleet

    def _probe(self, settings: CoordinatorSettings, before: list[Device]) -> DenseProbe:
        """One more round, dense, with the devices that are left: the comparison is measured, not computed."""
        self._say("one round with the dense codec, to count what it would have cost")
        left = sum(device.online for device in before)
        whole = self._job.downlink.model_copy(update={"first_model": "whole"})
        changes = {"name": "dense-probe", "rounds": 1, "sieve": Sieve(codec="dense"), "downlink": whole}
        fleet = self._job.fleet.model_copy(update={"minimum_devices": left, "minimum_updates": 1})
        dense = self._job.model_copy(update=changes | {"fleet": fleet})
        folder = RunFolder(self.folder.path / "dense-probe")
        folder.begin(resume=False)
        with assembled_run(dense, folder, settings) as run:
            run.execute()
            run.finish()
            after, figures = run.devices(), run.journal.rounds(run.id)[0].figures
        earlier = {device.name: device.heartbeat.received_bytes for device in before if device.heartbeat}
        down = [d.heartbeat.received_bytes - earlier[d.name] for d in after if d.heartbeat and d.name in earlier]
        return DenseProbe(figures["uplink_bytes"] / figures["updates"], sum(down) / len(down))


def measure_baselines(task: Task, seed: int, on_model: Callable[[int], None]) -> Baselines:
    """Train pooled and alone with plain torch, in this process; `on_model` hears how many models are ready."""
    pooled = pooled_accuracy(task, POOLED_STEPS, seed)
    alone: list[float] = []
    on_model(1)
    for score in alone_accuracies(task, ALONE_STEPS, seed):
        alone.append(score)
        on_model(1 + len(alone))
    return Baselines(pooled, sum(alone) / len(alone))


def demo_job(rounds: int | None, seed: int | None) -> Job:
    """The demo's job, as `coordinator/tasks/watch.toml` has it, with other rounds or seed where given."""
    job = load_job(WATCH_JOB)
    changes = {key: value for key, value in (("rounds", rounds), ("seed", seed)) if value is not None}
    return job.model_copy(update=changes)


def _fleet(run: Run, final: dict[str, float]) -> Fleet:
    devices = run.devices()
    return Fleet(run_figures(run, final), FleetTraffic.of(devices), devices)


def _summary(fleet: Fleet, baselines: Baselines, probe: DenseProbe) -> dict[str, object]:
    updates, traffic = int(str(fleet.figures["updates"])), fleet.traffic
    dense_up = round(probe.uplink_bytes_an_update * updates)
    dense_down = round(probe.downlink_bytes_a_device * updates)  # every update began with a download
    return {
        "clients": len(fleet.devices),
        **fleet.figures,
        "accuracy_alone_mean": baselines.alone_mean,
        "accuracy_pooled": baselines.pooled,
        "uplink_bytes": traffic.uplink_bytes,
        "dense_uplink_bytes": dense_up,
        "uplink_ratio": round(dense_up / traffic.uplink_bytes, 1),
        "downlink_bytes": traffic.downlink_bytes,
        "dense_downlink_bytes": dense_down,
        "downlink_ratio": round(dense_down / traffic.downlink_bytes, 1),
        "tcp_uplink_bytes": traffic.tcp_uplink_bytes,
        "tcp_downlink_bytes": traffic.tcp_downlink_bytes,
        "client_peak_rss_mb_max": round(peak_rss_mb(fleet.devices), 1),
    }
