"""Both example apps on Flower's own engines: Simulation Engine on Ray, and SuperLink with SuperNodes on loopback."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from coordinator.bench.flower_node import HOST, PROGRAMS, free_port, running, wait_for_port, write_connection
from coordinator.emulation.emulation import Setup, emulated_run
from coordinator.job import load_job
from coordinator.run_folder import RunFolder

pytest.importorskip("sklearn", reason="the example needs scikit-learn")

ROOT = Path(__file__).parents[2]
APP, JOB_APP = (ROOT / "deploy" / "examples" / name for name in ("flower-app", "flower-job"))
LONGEST_SECONDS = 150.0

SIMULATED = """
import sys
sys.path.insert(0, sys.argv[1])
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation
import {module} as app
server = ServerApp()
@server.main()
def main(grid, context):
    context.run_config.update({{"rounds": 4, "nodes": 4, "out": sys.argv[2]}})
    {start}
run_simulation(server, app.client_app, num_supernodes=4,
               backend_config={{"client_resources": {{"num_cpus": 1, "num_gpus": 0.0}}}})
"""


def wait_for(ready: Callable[[], bool], what: str, logs: Path) -> None:
    deadline = time.monotonic() + LONGEST_SECONDS
    while not ready():
        said = {log.name: log.read_text(errors="replace")[-600:] for log in logs.glob("*.log")}
        assert time.monotonic() < deadline, f"waited {LONGEST_SECONDS:g} s for {what}: {said}"
        time.sleep(0.25)


def check(figures_file: Path, updates: int) -> None:
    figures = json.loads(figures_file.read_text())
    assert figures["updates"] == updates
    assert figures["ratio"] > 18
    assert figures["accuracy"] > 0.6


def simulate(app: Path, module: str, start: str, out: Path) -> None:
    command = [sys.executable, "-c", SIMULATED.format(module=module, start=start), str(app), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False, cwd=ROOT)
    assert out.exists(), done.stderr[-1500:]


@pytest.fixture
def job_app(tmp_path: Path) -> Path:
    """The example with two rounds: on SuperNodes every message starts a process."""
    app = Path(shutil.copytree(JOB_APP, tmp_path / "app"))
    job = (app / "job.toml").read_text()
    assert "rounds = 4" in job
    (app / "job.toml").write_text(job.replace("rounds = 4", "rounds = 2"))
    return app


def emulated_digest(app: Path, folder: Path, clients: int) -> object:
    """What the emulator makes of the job that the engines ran."""
    run_folder = RunFolder(folder)
    run_folder.begin(resume=False)
    with emulated_run(Setup(load_job(app / "job.toml"), clients), run_folder) as emulated:
        emulated.run.execute()
        return emulated.run.strategy.model.digest


needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="Flower's Simulation Engine needs gradsieve[simulation]: Ray"
)


@needs_ray
def test_the_app_runs_on_the_simulation_engine(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    simulate(APP, "sieved_app", "app.main(grid, context)", out)
    check(out, 16)


@needs_ray
def test_a_job_makes_the_emulator_s_model_on_the_simulation_engine(job_app: Path, tmp_path: Path) -> None:
    out, job = tmp_path / "run", job_app / "job.toml"
    # Where Ray takes long to begin, a round that is content with two clients would begin without the others.
    job.write_text(job.read_text().replace("minimum_devices = 2", "minimum_devices = 4"))
    simulate(job_app, "drill_app", "app.server_app(grid, context)", out)
    figures = json.loads((out / "summary.json").read_text())
    assert figures["updates"] == 8
    assert figures["model_digest"] == emulated_digest(job_app, tmp_path / "emulated", 4)


@dataclass(frozen=True)
class SuperLink:
    """A SuperLink with two SuperNodes, and where `flwr run` finds it."""

    folder: Path

    def run(self, app: Path, config: str, name: str, ready: Callable[[], bool]) -> None:
        submit = [str(PROGRAMS / "flwr"), "run", str(app), "bench", "--run-config", config, "--stream"]
        with running(submit, self.folder, name):
            wait_for(ready, f"the figures of {name}", self.folder)


@pytest.fixture(scope="module")
def superlink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperLink]:
    folder, link_port = tmp_path_factory.mktemp("superlink"), free_port()
    write_connection(folder, link_port)
    link = [str(PROGRAMS / "flower-superlink"), "--insecure", "--host", HOST, "--port", str(link_port)]
    with ExitStack() as stack:
        stack.enter_context(running([*link, "--disable-runtime-dependency-installation"], folder, "superlink"))
        wait_for_port(link_port)
        for number in range(2):
            node = [str(PROGRAMS / "flower-supernode"), "--insecure", "--superlink", f"{HOST}:{link_port}"]
            node += ["--host", HOST, "--port", str(free_port()), "--node-config"]
            node += [f"partition-id={number} num-partitions=2"]
            stack.enter_context(running(node, folder, f"supernode-{number}"))
        yield SuperLink(folder)


def test_the_app_runs_on_superlink_and_supernodes(superlink: SuperLink, tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    superlink.run(APP, f'rounds=4 nodes=2 out="{out}"', "app", lambda: out.exists() and out.read_text().endswith("}"))
    check(out, 8)


def test_a_job_makes_the_emulator_s_model_on_superlink_and_supernodes(
    superlink: SuperLink, job_app: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    superlink.run(job_app, f'out="{out}"', "job", (out / "report.html").exists)
    figures = json.loads((out / "summary.json").read_text())
    assert figures["updates"] == 4
    assert figures["model_digest"] == emulated_digest(job_app, tmp_path / "emulated", 2)
