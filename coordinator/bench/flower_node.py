"""A Flower SuperNode as a node of the device benchmark: SuperLink, SuperNode and ClientApp on loopback."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from coordinator.bench.control_group import ControlGroup
from coordinator.bench.node_run import NodeRun
from coordinator.bench.node_task import NodeTask
from coordinator.bench.process_tree import Watch, end
from coordinator.export.step import export_step
from coordinator.export.step_graphs import initial_weights
from coordinator.tasks.drill import DRILL
from shared.errors import TrainerError
from shared.preprocessing import cut

ROOT = Path(__file__).parents[2]
APP = ROOT / "scripts" / "flower_task"
HOST = "127.0.0.1"
PROGRAMS = Path(sys.executable).parent
START_SECONDS = 60.0

Library = Literal["onnxruntime", "torch"]


def measure_flower_node(
    task: NodeTask, folder: Path, group: ControlGroup | None, library: Library
) -> dict[str, object]:
    """The figures of one SuperNode that trains for the task's rounds, then as many of one step."""
    _write_case(task, folder)
    link_port, node_port = free_port(), free_port()
    write_connection(folder, link_port)
    link = [str(PROGRAMS / "flower-superlink"), "--insecure", "--host", HOST, "--port", str(link_port)]
    node = [str(PROGRAMS / "flower-supernode"), "--insecure", "--superlink", f"{HOST}:{link_port}"]
    node += ["--host", HOST, "--port", str(node_port)]
    with ExitStack() as stack:
        stack.enter_context(running([*link, "--disable-runtime-dependency-installation"], folder, "superlink"))
        wait_for_port(link_port)
        launcher = group.launcher if group else []
        pid = stack.enter_context(running([*launcher, *node], folder, "supernode")).pid
        watch = stack.enter_context(Watch(pid))
        run = NodeRun(watch, lambda: _lines(folder / "progress"), group)
        wait_for_port(node_port)
        run.measure_idle()
        config = f'rounds={2 * task.rounds} folder="{folder}" library="{library}"'
        submit = [str(PROGRAMS / "flwr"), "run", str(APP), "bench", "--run-config", config, "--stream"]
        stack.enter_context(running(submit, folder, "run"))
        run.wait(task.rounds, task.seconds)
        run.note_peaks()
        run.wait(2 * task.rounds, task.seconds)
    _note_rounds(run, task, _lines(folder / "progress"))
    return run.figures


def _note_rounds(run: NodeRun, task: NodeTask, done: int) -> None:
    run.figures["training_rounds"] = min(done, task.rounds)
    run.figures["one_step_rounds"] = max(0, done - task.rounds)
    if training := run.a_round(task.warm_up, task.rounds):
        run.figures["cpu_seconds_a_round"] = round(training[0], 3)
        run.figures["written_bytes_a_round"] = round(training[1])
    if idle := run.a_round(task.rounds, 2 * task.rounds):
        run.figures["cpu_seconds_a_round_of_one_step"] = round(idle[0], 3)


def _write_case(task: NodeTask, folder: Path) -> None:
    """What the Flower app reads: graphs, weights, the training windows, and how many steps a round has."""
    torch.manual_seed(1)
    model = DRILL.model()
    graphs = export_step(model, DRILL.loss, *DRILL.example())
    client = task.client()
    windows = cut(client.series, client.labels, DRILL.preprocessing)
    case = {
        "layout": [(tensor.name, tensor.shape, tensor.role) for tensor in graphs.layout.tensors],
        "steps": [task.steps] * task.rounds + [1] * task.rounds,
        "batch_size": task.batch_size,
        "learning_rate": task.learning_rate,
    }
    (folder / "case.json").write_text(json.dumps(case))
    (folder / "train.onnx").write_bytes(graphs.train)
    (folder / "eval.onnx").write_bytes(graphs.evaluate)
    initial_weights(model, graphs.layout).tofile(folder / "weights.f32")
    np.save(folder / "x.npy", windows.train_x)
    np.save(folder / "y.npy", windows.train_y)


def write_connection(folder: Path, port: int) -> None:
    """Flower's own settings, in a home of the run's."""
    home = folder / "flwr"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "bench"\n[superlink.bench]\naddress = "{HOST}:{port}"\ninsecure = true\n'
    )


@contextmanager
def running(command: Sequence[str], folder: Path, name: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that is ended with all that it started, each process by its id."""
    environment = os.environ | {
        "FLWR_HOME": str(folder / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "PATH": f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)  # noqa: S603
        try:
            yield process
        finally:
            end(process)


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.create_server((HOST, 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def wait_for_port(port: int) -> None:
    """Wait until somebody listens there; raises `TrainerError` after a minute."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port), timeout=1.0).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise TrainerError(f"nothing listens on port {port} after {START_SECONDS:g} s: see the log files of the run")


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0
