"""`python -m coordinator.bench.device`: whole nodes side by side, our edge client and a Flower SuperNode, one task.

Every node has the same made-up images and trains the same LeNet in the same batches: ours over mosquitto against a real
coordinator, Flower's by SuperLink, SuperNode and ClientApp, all on loopback. Memory and processor time are sums over
the node's processes, read from procfs. Where control groups can be made, nodes also run in them, held to the memory
and a fifth of a core of a small board.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from coordinator.bench.control_group import ControlGroup, limited, why_missing
from coordinator.bench.flower_node import measure_flower_node
from coordinator.bench.installed_size import installed_mb
from coordinator.bench.load import load_before
from coordinator.bench.markdown import claims_table, rows_table
from coordinator.bench.node_task import NodeTask
from coordinator.bench.own_node import measure_own_node
from coordinator.bench.result import Claim, Row, write_result
from shared.errors import GradsieveError

OURS, FLOWER_ONNX, FLOWER_TORCH = "gradsieve", "flower, onnxruntime", "flower, torch"
NODES = (OURS, FLOWER_ONNX, FLOWER_TORCH)
LIMITS_MB = (None, 512, 256, 128)
CORES = 0.2
WEIGHTS_BYTES = 4 * 220_874
TASK, QUICK_TASK, LIMITED_TASK = NodeTask(rounds=5), NodeTask(rounds=4), NodeTask(rounds=3, warm_up=1, seconds=120)
SIZES = ("gradsieve[edge]", "flwr", "torch")


def measure(name: str, limit_mb: int | None, task: NodeTask) -> Row:
    """One node under one limit; `outcome` says how far it came."""
    row: dict[str, object] = {"node": name, "memory_limit_mb": limit_mb, "cores": CORES if limit_mb else None}
    if limit_mb and (reason := why_missing()):
        return row | {"outcome": f"cgroups missing: {reason}"}
    try:
        with tempfile.TemporaryDirectory(prefix="gradsieve-device-") as folder, _group(limit_mb) as group:
            row |= _measure(name, task, Path(folder), group)
    except GradsieveError as error:
        return row | {"outcome": f"did not start: {error}"}
    return row | {"outcome": _outcome(row, task)}


def _measure(name: str, task: NodeTask, folder: Path, group: ControlGroup | None) -> dict[str, object]:
    if name == OURS:
        return measure_own_node(task, folder, group)
    return measure_flower_node(task, folder, group, "torch" if name == FLOWER_TORCH else "onnxruntime")


@contextmanager
def _group(limit_mb: int | None) -> Iterator[ControlGroup | None]:
    if limit_mb is None:
        yield None
    else:
        with limited(limit_mb << 20, CORES) as group:
            yield group


def _outcome(row: Row, task: NodeTask) -> str:
    done = int(str(row.get("training_rounds", 0))) + int(str(row.get("one_step_rounds", 0)))
    killed = row.get("killed_for_memory")
    if done == 2 * task.rounds:
        return "completed"
    return f"{done} of {2 * task.rounds} rounds" + (f", {killed} processes killed for memory" if killed else "")


def measure_sizes() -> list[Row]:
    """What each node takes on disk, with all that it requires; a Flower node needs a training library besides."""
    return [{"installation": name, "installed_mb": installed_mb(name)} for name in SIZES]


def claims_of(rows: Sequence[Row]) -> list[Claim]:
    """The budgets of a board, by the rows of our node without a limit and of its installation."""
    claims: list[Claim] = []
    own = next((row for row in rows if row.get("node") == OURS and row["memory_limit_mb"] is None), {})
    size = next((row for row in rows if row.get("installation") == SIZES[0]), {})
    for text, found, floor, aim in (
        ("resident memory idle, connected, MB", own.get("idle_rss_mb"), 60, 45),
        ("peak resident memory of agent and trainer, LeNet, MB", own.get("peak_rss_mb"), 150, 110),
        ("installed size of [edge], MB", size.get("installed_mb"), 210, 170),
        ("processor seconds of a round of one step", own.get("cpu_seconds_a_round_of_one_step"), 0.25, 0.1),
        ("bytes written a round, of frame and residual", _written_share(own), 3, 1),
    ):
        if found is not None:
            claims.append(Claim(text, float(str(found)), floor, aim, "lower"))
    return claims


def _written_share(own: Row) -> float | None:
    if "written_bytes_a_round" not in own:
        return None
    kept = int(str(own["frame_bytes"])) + WEIGHTS_BYTES
    return round(int(str(own["written_bytes_a_round"])) / kept, 2)


COLUMNS = (
    "node", "memory_limit_mb", "outcome", "idle_rss_mb", "idle_pss_mb", "peak_rss_mb", "peak_pss_mb", "peak_charged_mb",
    "cpu_seconds_a_round", "cpu_seconds_a_round_of_one_step", "written_bytes_a_round",
)  # fmt: skip


def table_of(rows: Sequence[Row], command: str, load: str) -> str:
    """The rows and claims as Markdown."""
    lines = [
        "# A node at work: our edge client and a Flower SuperNode",
        "",
        f"Made by `{command}`; all figures and versions in [device.json](device.json). {load}",
        "",
        "Sums over all processes of a node. RSS counts a page once for every process that maps it, PSS once in all;",
        "*charged* is what the control group counted, files it was first to read included. With a limit a node also",
        f"has only {CORES:g} of a core. Our rounds score the model on the node's test images too, Flower's do not.",
        "",
        *rows_table([row for row in rows if "node" in row], COLUMNS),
        "",
        *rows_table([row for row in rows if "installation" in row], ("installation", "installed_mb")),
        "",
        *claims_table(claims_of(rows)),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure all nodes under all limits, print a line for each, and write the result."""
    parser = argparse.ArgumentParser(prog="scripts/bench device", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no limits")
    parser.add_argument("--nodes", nargs="+", default=list(NODES), choices=NODES)
    parser.add_argument(
        "--limits", nargs="+", type=int, default=[limit or 0 for limit in LIMITS_MB], help="MB; 0: none"
    )
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/device.json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    load, rows = load_before(), []
    for limit in [0] if chosen.quick else chosen.limits:
        for name in chosen.nodes:
            if name == FLOWER_TORCH and limit:
                continue  # the other variant is the lighter one
            task = QUICK_TASK if chosen.quick else LIMITED_TASK if limit else TASK
            rows.append(measure(name, limit or None, task))
            print(json.dumps(rows[-1]), flush=True)
    rows += measure_sizes()
    command = f"scripts/bench device{' --quick' if chosen.quick else ''}"
    write_result(chosen.out, "device", command, [], rows, claims_of(rows), {"load": load})
    chosen.out.with_suffix(".md").write_text(table_of(rows, command, load), encoding="utf-8")


if __name__ == "__main__":
    main()
