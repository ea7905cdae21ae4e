"""Images, tokens and numbers to predict, from `gradsieve export` through whole runs to what people read of them.

Over the in-memory broker, by the real commands; devices are real agents with the real trainer, on their own threads.
"""

import json
import logging
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from coordinator.main import app
from edge_client.agent import Agent
from edge_client.data_settings import DataSourceSettings
from edge_client.data_sources import source_for
from edge_client.inline_trainer import InlineTrainer
from edge_client.outbox import Outbox
from edge_client.settings import EdgeSettings
from shared.memory_transport import MemoryBroker, MemoryTransport
from shared.signing import SigningKey

MODELS = """
import torch
from torch import nn


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def images():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))


def words():
    return nn.Sequential(nn.Embedding(50, 8), Mean(), nn.Linear(8, 2))


def rows():
    return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))


def marks():
    return nn.Linear(4, 2)


def waves():
    return nn.Sequential(nn.Conv1d(2, 8, 5), nn.Tanh(), nn.Flatten(), nn.Linear(8 * 12, 1), nn.Flatten(0))
"""
JOB = """
name = "kinds"
task = "net.gsb"
rounds = 4

[work]
steps = 25
batch_size = 16
learning_rate = RATE

[sieve]
ratio = 4.0

[fleet]
minimum_devices = 2
minimum_updates = 1
round_seconds = 20
gather_seconds = 20
"""
NAMES = ("board-a", "board-b")


def write_images(folder: Path, draw: np.random.Generator) -> None:
    """Blue and red ones: which is which tells the order of colours alone."""
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    for name, colour in (("blue", (20, 40, 200)), ("red", (200, 40, 20))):
        (folder / name).mkdir()
        for number in range(40):
            noise = draw.integers(0, 50, (10, 10, 3))
            image.fromarray((np.array(colour) + noise).astype(np.uint8)).save(folder / name / f"{number}.png")


def write_tokens(folder: Path, draw: np.random.Generator) -> None:
    """Sequences of words below 25, or from 25 on."""
    y = draw.integers(0, 2, 200)
    np.savez(folder / "words.npz", x=(draw.integers(0, 25, (200, 12)) + 25 * y[:, None]).astype(np.uint8), y=y)


def write_table(folder: Path, draw: np.random.Generator) -> None:
    x = draw.normal(size=(300, 3))
    price = 2 * x[:, 0] - x[:, 1] + 3
    lines = [f"{a:.4f},{b:.4f},{c:.4f},{p:.4f}\n" for (a, b, c), p in zip(x, price, strict=True)]
    (folder / "houses.csv").write_text("size,age,noise,price\n" + "".join(lines))


def write_marks(folder: Path, draw: np.random.Generator) -> None:
    x = draw.normal(size=(200, 4)).astype(np.float32)
    np.savez(folder / "marks.npz", x=x, y=(x[:, :2] > 0).astype(np.float64))


def write_waves(folder: Path, draw: np.random.Generator) -> None:
    """What is to be predicted is the last sample of the first channel."""
    for number in range(2):
        x = draw.normal(size=(500, 2)).astype(np.float32)
        np.savez(folder / f"wave-{number}.npz", x=x, y=x[:, 0])


@dataclass(frozen=True)
class Kind:
    """How a model is exported, its step size, and the data of a device."""

    options: str
    write: Callable[[Path, np.random.Generator], None]
    source: DataSourceSettings
    rate: float = 0.1
    has_classes: bool = False


IMAGES = DataSourceSettings(kind="images", classes=("blue", "red"), image_size=(8, 8))
ARRAYS = DataSourceSettings(kind="arrays")
TABLE = DataSourceSettings(kind="csv", columns=("size", "age", "noise"), targets=("price",))
KINDS = {
    "images": Kind(
        "--input-shape 3,8,8 --mean 0.5,0.5,0.5 --std 0.2,0.2,0.2 --bgr", write_images, IMAGES, has_classes=True
    ),
    "words": Kind("--input-shape 12 --tokens", write_tokens, ARRAYS, has_classes=True),
    "rows": Kind("--input-shape 3 --regression", write_table, TABLE, 0.02),
    "marks": Kind("--input-shape 4 --regression --loss binary-cross-entropy", write_marks, ARRAYS),
    "waves": Kind("--input-shape 2,16 --regression --loss huber", write_waves, DataSourceSettings(), 0.02),
}


@pytest.fixture(autouse=True)
def logging_of_the_test_run() -> Iterator[None]:
    """The programs take over the root logger: give it back, and close their files."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@dataclass
class Place:
    """A working folder with the user's modules, and an in-memory broker that the commands and devices meet at."""

    folder: Path
    broker: MemoryBroker

    def gradsieve(self, *words: str) -> str:
        """What a command prints; it must succeed."""
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    def export(self, name: str, job: str = "job.toml", rounds: int = 4) -> None:
        """The model of a kind, and the job file for it."""
        self.gradsieve("export", f"models:{name}", *KINDS[name].options.split(), "--out", "net.gsb")
        text = JOB.replace("RATE", str(KINDS[name].rate)).replace("rounds = 4", f"rounds = {rounds}")
        (self.folder / job).parent.mkdir(exist_ok=True)
        (self.folder / job).write_text(text)

    @contextmanager
    def devices(self, kind: Kind, spoil: Callable[[Path], None] = lambda data: None) -> Iterator[None]:
        """Two of them; `spoil` is given the data folder of the first."""
        key = SigningKey.load(self.folder / "coordinator.key").verify_key.hex
        stop, threads, transports = threading.Event(), [], []
        for seed, name in enumerate(NAMES):
            data, state = self.folder / name / "data", self.folder / name / "state"
            data.mkdir(parents=True)
            kind.write(data, np.random.default_rng(seed))
            if not seed:
                spoil(data)
            settings = EdgeSettings(
                name=name, data=data, data_source=kind.source, state_dir=state, trusted_signers=(key,)
            )
            transports.append(MemoryTransport(self.broker, name))
            trainer = InlineTrainer(state, source_for(data, kind.source), time.monotonic)
            agent = Agent(settings, Outbox(state), transports[-1], trainer, jitter=random.Random(seed).random)
            threads.append(threading.Thread(target=agent.run, args=(stop,), name=name))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for transport in transports:
                transport.wake()
            for thread in threads:
                thread.join(20)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    torch.set_num_threads(1)
    broker = MemoryBroker()
    monkeypatch.delitem(sys.modules, "models", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        "coordinator.assembly.PahoTransport", lambda settings, name, jitter: MemoryTransport(broker, name)
    )
    (tmp_path / "models.py").write_text(MODELS)
    return Place(tmp_path, broker)


def losses(text: str) -> list[float]:
    """The training losses of the rounds that were shown, in order."""
    return [float(found) for found in re.findall(r"updates 2/2  loss ([0-9.e-]+)", text)]


@pytest.mark.parametrize("name", KINDS)
def test_fleet_learns_from_what_is_exported_and_nothing_that_is_shown_is_no_number(place: Place, name: str) -> None:
    kind = KINDS[name]
    place.export(name)
    with place.devices(kind):
        shown = place.gradsieve("run", "job.toml", "--out", "run")
    status = place.gradsieve("status", "run")
    summary = json.loads((place.folder / "run" / "summary.json").read_text())
    report = (place.folder / "run" / "report.html").read_text()
    assert not any(re.search(r"\bnan\b|\bNone\b", text, re.IGNORECASE) for text in (shown, status))
    assert ">nan" not in report
    first, *_, last = losses(shown)
    assert last < 0.8 * first
    assert summary["loss"] < 0.8 * first
    if kind.has_classes:
        assert summary["accuracy"] > 0.9
        assert f"accuracy {summary['accuracy']:.3f}   model" in shown
        return
    assert summary["accuracy"] is None
    assert "accuracy" not in shown
    assert f"loss {summary['loss']:.4g}   model" in shown
    assert "Loss together" in report
    assert "Training loss, round by round" in report
    assert "Accuracy together" not in report


def test_service_tells_the_loss_of_a_job_whose_labels_are_numbers(
    place: Place,
) -> None:
    place.export("rows", "jobs/kinds.toml", rounds=1)
    with place.devices(KINDS["rows"]):
        shown = place.gradsieve("serve", "--once", "--jobs", "jobs", "--out", "runs")
    loss = json.loads((place.folder / "runs" / "kinds" / "summary.json").read_text())["loss"]
    assert f"kinds: finished, loss {loss:.4g}; report" in shown


def unknown_word(data: Path) -> None:
    x = np.zeros((5, 12), np.int64)
    x[3, 7] = 50
    np.savez(data / "more.npz", x=x, y=np.zeros(5, np.int64))


def no_price(data: Path) -> None:
    with (data / "houses.csv").open("a") as file:
        file.write("1,2,3,\n")


def broken_image(data: Path) -> None:
    (data / "red" / "7.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")


def mark_above_one(data: Path) -> None:
    y = np.zeros((5, 2), np.float32)
    y[2, 1] = 3
    np.savez(data / "more.npz", x=np.zeros((5, 4), np.float32), y=y)


@pytest.mark.parametrize(
    ("name", "spoil", "fault"),
    [
        ("words", unknown_word, "more.npz, row 3: token 50 at place 7, the model knows 0 to 49"),
        ("rows", no_price, "houses.csv, row 302, column price: '' is no number"),
        ("images", broken_image, "red/7.png: not a readable image"),
        ("marks", mark_above_one, "more.npz, row 2: label 3, it must be from 0 to 1"),
    ],
)
def test_fault_in_one_devices_data_is_told_by_file_and_row_and_the_others_go_on(
    place: Place, name: str, spoil: Callable[[Path], None], fault: str
) -> None:
    place.export(name, rounds=1)
    with place.devices(KINDS[name], spoil):
        place.gradsieve("run", "job.toml", "--out", "run")
    status = json.loads(place.gradsieve("status", "run", "--json"))
    assert any("board-a" in line and fault in line for line in status[0]["troubles"]), status[0]["troubles"]
    assert status[0]["rounds_closed"] == 1
