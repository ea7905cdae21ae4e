"""The example app on Flower's own engines: the Simulation Engine on Ray, and SuperLink with SuperNodes on loopback."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from coordinator.bench.flower_node import HOST, PROGRAMS, free_port, running, wait_for_port, write_connection

pytest.importorskip("sklearn", reason="the example needs scikit-learn")

ROOT = Path(__file__).parents[2]
APP = ROOT / "deploy" / "examples" / "flower-app"
LONGEST_SECONDS = 150.0

SIMULATED = """
import json, sys
sys.path.insert(0, sys.argv[1])
from flwr.app import Context, RecordDict
from flwr.serverapp import ServerApp
from flwr.simulation import run_simulation
import sieved_app
server = ServerApp()
@server.main()
def main(grid, context):
    context.run_config.update({"rounds": 4, "nodes": 4, "out": sys.argv[2]})
    sieved_app.main(grid, context)
run_simulation(server, sieved_app.client_app, num_supernodes=4,
               backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}})
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


@pytest.mark.skipif(find_spec("ray") is None, reason="Flower's Simulation Engine needs gradsieve[simulation]: Ray")
def test_the_app_runs_on_the_simulation_engine(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, "-c", SIMULATED, str(APP), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False, cwd=ROOT)
    assert out.exists(), done.stderr[-1500:]
    check(out, 16)


def test_the_app_runs_on_superlink_and_supernodes(tmp_path: Path) -> None:
    out, link_port = tmp_path / "figures.json", free_port()
    write_connection(tmp_path, link_port)
    link = [str(PROGRAMS / "flower-superlink"), "--insecure", "--host", HOST, "--port", str(link_port)]
    with ExitStack() as stack:
        stack.enter_context(running([*link, "--disable-runtime-dependency-installation"], tmp_path, "superlink"))
        wait_for_port(link_port)
        for number in range(2):
            node = [str(PROGRAMS / "flower-supernode"), "--insecure", "--superlink", f"{HOST}:{link_port}"]
            node += ["--host", HOST, "--port", str(free_port()), "--node-config"]
            node += [f"partition-id={number} num-partitions=2"]
            stack.enter_context(running(node, tmp_path, f"supernode-{number}"))
        config = f'rounds=4 nodes=2 out="{out}"'
        submit = [str(PROGRAMS / "flwr"), "run", str(APP), "bench", "--run-config", config, "--stream"]
        stack.enter_context(running(submit, tmp_path, "run"))
        wait_for(lambda: out.exists() and out.read_text().endswith("}"), "the app's figures", tmp_path)
    check(out, 8)
