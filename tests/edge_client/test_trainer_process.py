import hashlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_client.background import NICE
from edge_client.orders import Answer, Failed, Order, Scored, Trained
from edge_client.pending import PendingStore
from edge_client.trainer import Trainer
from edge_client.trainer_pipe import MARGIN_SECONDS
from edge_client.trainer_process import ProcessTrainer

if TYPE_CHECKING:
    from tests.edge_client.conftest import Lab

MOST_SECONDS = 60.0


class Bench:
    """A process trainer whose answers can be waited for."""

    def __init__(self, lab: "Lab", idle_seconds: float) -> None:
        self.signals: SimpleQueue[None] = SimpleQueue()
        self.now = 0.0
        self.trainer = ProcessTrainer(
            lab.state,
            lab.data,
            lambda: self.signals.put(None),
            idle_seconds=idle_seconds,
            clock=lambda: self.now,
        )

    def answer(self) -> Answer:
        self.signals.get(timeout=MOST_SECONDS)
        (answer,) = self.trainer.poll()
        return answer

    def carry_out(self, order: Order) -> Answer:
        self.trainer.submit(order)
        return self.answer()

    @property
    def pid(self) -> int:
        child = self.trainer._child
        assert child is not None
        return child._process.pid


@pytest.fixture
def bench(lab: "Lab") -> Iterator[Bench]:
    bench = Bench(lab, idle_seconds=MOST_SECONDS)
    yield bench
    bench.trainer.close()


def endless(lab: "Lab") -> Order:
    order = lab.train_order(server_round=9)
    return order.model_copy(update={"work": order.work.model_copy(update={"steps": 1_000_000})})


def test_child_carries_out_orders_in_turn(lab: "Lab", bench: Bench) -> None:
    trainer: Trainer = bench.trainer
    assert trainer.poll() == []
    scored = bench.carry_out(lab.evaluate_order())
    assert isinstance(scored, Scored)
    first = bench.pid
    trained = bench.carry_out(lab.train_order())
    assert isinstance(trained, Trained)
    assert PendingStore(lab.run).unsettled() is not None
    assert bench.pid == first
    assert 40 << 20 < trained.peak_rss_bytes <= trainer.peak_rss_bytes()
    trainer.close()
    assert trainer.peak_rss_bytes() >= trained.peak_rss_bytes


def test_killed_child_is_a_failure_and_the_next_order_starts_another(lab: "Lab", bench: Bench) -> None:
    bench.carry_out(lab.evaluate_order())
    first = bench.pid
    bench.trainer.submit(endless(lab))
    os.kill(first, signal.SIGKILL)
    answer = bench.answer()
    assert answer == Failed(
        run="r", server_round=9, code="trainer_failed", text="trainer was killed by signal 9 (out of memory?)"
    )
    assert not (lab.run / "pending.bin").exists()
    assert isinstance(bench.carry_out(lab.train_order()), Trained)
    assert bench.pid != first


def test_child_that_hangs_is_ended_and_the_next_order_starts_another(lab: "Lab", bench: Bench) -> None:
    bench.carry_out(lab.evaluate_order())
    order, first = endless(lab), bench.pid
    os.kill(first, signal.SIGSTOP)
    bench.now = 1000.0
    bench.trainer.submit(order)
    bench.now += order.seconds + MARGIN_SECONDS - 1
    assert bench.trainer.poll() == []
    os.kill(first, 0)
    bench.now += 1
    assert bench.trainer.poll() == []
    answer = bench.answer()
    assert isinstance(answer, Failed)
    assert (answer.code, answer.server_round) == ("trainer_failed", order.server_round)
    assert answer.text == "trainer hung and was ended 120 s after the time of its order"
    assert isinstance(bench.carry_out(lab.train_order()), Trained)
    assert bench.pid != first


def test_idle_child_is_not_taken_for_one_that_hangs(lab: "Lab", bench: Bench) -> None:
    bench.carry_out(lab.evaluate_order())
    first = bench.pid
    bench.now = 1e6
    assert bench.trainer.poll() == []
    bench.carry_out(lab.evaluate_order())
    assert bench.pid == first


@pytest.mark.parametrize(
    ("owner", "name", "fault"),
    [
        (subprocess, "Popen", OSError(12, "Cannot allocate memory")),
        (Thread, "start", RuntimeError("can't start new thread")),
    ],
    ids=["process", "thread"],
)
def test_child_that_cannot_start_is_a_failure_and_the_next_order_tries_again(
    lab: "Lab", bench: Bench, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, fault: Exception
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, no_memory)
        answer = bench.carry_out(lab.evaluate_order())
    assert isinstance(answer, Failed)
    assert answer.code == "trainer_failed"
    assert answer.text == f"the trainer cannot be started: {fault}"
    assert isinstance(bench.carry_out(lab.evaluate_order()), Scored)


def test_bad_data_reaches_the_agent_by_name_and_the_child_stays(lab: "Lab", bench: Bench) -> None:
    np.savez(lab.data / "bad.npz", x=np.zeros((9, 5), np.float32), y=np.int64(0))
    answer = bench.carry_out(lab.train_order())
    assert isinstance(answer, Failed)
    assert answer.code == "data_error"
    assert answer.text.startswith("bad.npz: ")
    (lab.data / "bad.npz").unlink()
    assert isinstance(bench.carry_out(lab.train_order()), Trained)


def test_close_in_the_middle_of_an_order_ends_the_child_without_an_answer(lab: "Lab", bench: Bench) -> None:
    bench.carry_out(lab.evaluate_order())
    pid = bench.pid
    bench.trainer.submit(endless(lab))
    bench.trainer.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert bench.trainer.poll() == []
    assert bench.signals.empty()


def test_idle_child_is_ended_and_the_next_order_starts_another(lab: "Lab") -> None:
    bench = Bench(lab, idle_seconds=0.0)
    try:
        assert isinstance(bench.carry_out(lab.evaluate_order()), Scored)
        bench.trainer._listener.join(MOST_SECONDS)
        assert bench.trainer._child is None
        assert isinstance(bench.carry_out(lab.evaluate_order()), Scored)
    finally:
        bench.trainer.close()
    with pytest.raises(Empty):
        bench.signals.get_nowait()


AGENT = """
import sys
from pathlib import Path
from edge_client.orders import ORDER
from edge_client.trainer_process import ProcessTrainer
from shared.messages import parse

state, data, *orders = sys.argv[1:]
trainer = ProcessTrainer(Path(state), Path(data), lambda: print(trainer._child._process.pid, flush=True))
for order in orders:
    trainer.submit(parse(ORDER, order.encode()))
sys.stdin.read()
"""


def test_child_ends_with_its_agent_even_in_the_middle_of_an_order(lab: "Lab") -> None:
    orders = [order.model_dump_json() for order in (lab.evaluate_order(), endless(lab))]
    arguments = [sys.executable, "-c", AGENT, str(lab.state), str(lab.data), *orders]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as agent:
        assert agent.stdout is not None
        child = os.pidfd_open(int(agent.stdout.readline()))
        agent.kill()
    ended, _, _ = select.select([child], [], [], MOST_SECONDS)
    os.close(child)
    assert ended


def test_child_and_agent_load_neither_torch_nor_onnx_nor_flower() -> None:
    code = "import sys, edge_client.{}; print(*sorted(sys.modules))"
    for module, heavy in (("trainer_child", {"numpy", "onnxruntime"}), ("trainer_process", set[str]())):
        done = subprocess.run(
            [sys.executable, "-c", code.format(module)], stdout=subprocess.PIPE, check=True, text=True
        )
        loaded = {name.partition(".")[0] for name in done.stdout.split()}
        assert not loaded & {"torch", "onnx", "flwr", "coordinator"}
        assert {"numpy", "onnxruntime"} & loaded == heavy


def test_child_gives_way_to_all_other_processes(lab: "Lab", bench: Bench) -> None:
    bench.carry_out(lab.evaluate_order())
    assert os.getpriority(os.PRIO_PROCESS, bench.pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + NICE)


def test_a_trainer_loads_no_openssl_and_hashes_all_the_same() -> None:
    program = (
        "import sys, edge_client.trainer_child, hashlib\n"
        "loaded = [name for name in ('_hashlib', '_ssl', 'cryptography') if sys.modules.get(name)]\n"
        "print(loaded, hashlib.sha256(b'abc').hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["[]", hashlib.sha256(b"abc").hexdigest()]
