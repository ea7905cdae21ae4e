import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from coordinator.bench import device
from coordinator.bench.control_group import ControlGroup, why_missing
from coordinator.bench.device import OURS, QUICK_TASK, claims_of, measure, table_of
from coordinator.bench.installed_size import installed_mb
from coordinator.bench.node_run import NodeRun
from coordinator.bench.process_tree import Watch, pss_bytes, tree, usage
from shared.errors import BrokerUnreachable

OWN_ROW = {
    "node": OURS,
    "memory_limit_mb": None,
    "outcome": "completed",
    "idle_rss_mb": 44.0,
    "peak_rss_mb": 151.0,
    "cpu_seconds_a_round_of_one_step": 0.2,
    "written_bytes_a_round": 2 * (4 * 220_874 + 300),
    "frame_bytes": 300,
}
SLEEPY = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import sys; sys.stdin.read()'])"


def test_claims_are_of_our_node_without_a_limit() -> None:
    limited = OWN_ROW | {"memory_limit_mb": 128, "idle_rss_mb": 1.0}
    verdicts = [claim.met for claim in claims_of([limited, OWN_ROW, {"installation": "x", "installed_mb": 1.0}])]
    assert verdicts == ["aim", "no", "floor", "floor"]
    assert claims_of([OWN_ROW])[-1].value == 2.0


def test_row_says_that_control_groups_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "why_missing", lambda: "control groups need root")
    row = measure(OURS, 128, QUICK_TASK)
    assert row["outcome"] == "cgroups missing: control groups need root"
    assert "cgroups missing" in table_of([row], "command", "")


def test_node_that_does_not_start_is_a_row_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object) -> None:
        raise BrokerUnreachable("no broker")

    monkeypatch.setattr(device, "measure_own_node", unreachable)
    assert measure(OURS, None, QUICK_TASK)["outcome"] == "did not start: no broker"


def test_cost_of_a_round_is_the_difference_of_two_marks_over_the_rounds_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    progress = iter([0, 1, 1, 3])
    seconds = iter([1.0, 2.0, 5.0])
    monkeypatch.setattr("coordinator.bench.node_run.usage", lambda _: SimpleNamespace(cpu_seconds=next(seconds)))
    watch = cast(Watch, SimpleNamespace(root=1, written_bytes=7))
    run = NodeRun(watch, lambda: next(progress), None)
    assert run.wait(3, seconds=60.0)
    assert run.a_round(1, 3) == (1.5, 0.0)
    assert run.a_round(2, 3) is None


def test_tree_counts_children_and_what_they_take() -> None:
    parent = subprocess.Popen([sys.executable, "-c", SLEEPY], stdin=subprocess.PIPE)
    try:
        with Watch(parent.pid) as watch:
            while len(tree(parent.pid)) < 2 or not watch.peak_pss_bytes:
                assert parent.poll() is None
            assert usage(parent.pid).rss_bytes > usage(tree(parent.pid)[1]).rss_bytes > 1 << 20
            assert usage(parent.pid).cpu_seconds > 0
            assert 0 < pss_bytes(parent.pid) <= watch.peak_rss_bytes + (1 << 20)
    finally:
        parent.communicate(b"")
    assert tree(parent.pid) == []
    assert usage(parent.pid).rss_bytes == 0


def test_group_without_root_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert why_missing(tmp_path) in (
        "control groups need root",
        f"no memory controller of control groups under {tmp_path}",
    )
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert why_missing(tmp_path) == "control groups need root"


@pytest.mark.parametrize(
    ("peak", "usage_file", "events"),
    [
        ("memory.max_usage_in_bytes", "memory.usage_in_bytes", "memory.oom_control"),
        ("memory.peak", "memory.current", "memory.events"),
    ],
    ids=["version 1", "version 2"],
)
def test_counters_of_both_versions_are_read(tmp_path: Path, peak: str, usage_file: str, events: str) -> None:
    (tmp_path / peak).write_text("900\n")
    (tmp_path / usage_file).write_text("500\n")
    (tmp_path / "memory.stat").write_text("cache 7\ninactive_file 100\n")
    (tmp_path / events).write_text("under_oom 0\noom_kill 3\n")
    group = ControlGroup(tmp_path, tmp_path)
    assert (group.peak_bytes(), group.used_bytes(), group.killed()) == (900, 400, 3)
    assert ControlGroup(tmp_path / "none", tmp_path).peak_bytes() is None


def test_installed_size_is_of_all_that_is_required_and_none_where_it_is_missing() -> None:
    alone, edge = installed_mb("numpy"), installed_mb("gradsieve[edge]")
    assert alone is not None
    assert edge is not None
    assert edge > alone > 10
    assert installed_mb("no-such-distribution-here") is None
