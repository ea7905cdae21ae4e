"""Local data of several kinds, through the real graphs."""

import hashlib
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import nn

from coordinator.export.step import export_step
from coordinator.export.step_graphs import initial_weights
from edge_client.data_settings import DataSourceSettings
from edge_client.data_sources import source_for
from edge_client.inline_trainer import InlineTrainer
from edge_client.orders import Answer, Failed, Scored, Trained, TrainOrder
from edge_client.sample_ring import RING_FILE, SampleRing
from edge_client.task import Task, read_archive
from shared.bundle import Bundle, BundleManifest, file_entries, pack_bundle, sign_bundle
from shared.preprocessing import ExamplePreprocessing
from shared.signing import SigningKey

if TYPE_CHECKING:
    from tests.edge_client.conftest import Lab

TABLE = DataSourceSettings(kind="csv", columns=("a", "b"), label="label")


def carry_out(lab: "Lab", settings: DataSourceSettings, order: TrainOrder | None = None) -> Answer:
    trainer = InlineTrainer(lab.state, source_for(lab.data, settings), lambda: 0.0)
    trainer.submit(order or lab.train_order())
    [answer] = trainer.poll()
    return answer


def write_table(file: Path, last: str = "0.5,0.5,2\n") -> None:
    rows = [f"{np.sin(row):.3f},{np.cos(row):.3f},{row // 80}\n" for row in range(239)]
    file.write_text("a,b,label\n" + "".join(rows) + last)


def test_table_is_trained_on(lab: "Lab") -> None:
    write_table(lab.data / "walk.csv")
    answer = carry_out(lab, TABLE)
    assert isinstance(answer, Trained)
    assert answer.steps == 6


def test_fault_in_a_table_is_a_data_error_that_names_file_and_row(lab: "Lab") -> None:
    write_table(lab.data / "walk.csv", last="0.5,,2\n")
    answer = carry_out(lab, TABLE)
    assert isinstance(answer, Failed)
    assert answer.code == "data_error"
    assert answer.text.startswith("walk.csv, row 241, column b: '' is no number")


def test_samples_that_came_since_are_trained_on_in_the_next_round(lab: "Lab") -> None:
    settings = DataSourceSettings(columns=("a", "b")).model_copy(update={"kind": "sensor"})
    archive = read_archive(lab.state / "bundles" / f"{lab.task.bundle_digest}.gsb")
    with closing(SampleRing.open(lab.data / RING_FILE, 2, 500)) as ring:
        ring.append([[float(number), 1.0] for number in range(100)], 0)
        task = Task(archive, source_for(lab.data, settings))
        before = task.split
        assert task.split is before
        ring.append([[float(number), 1.0] for number in range(100)], 1)
        assert set(task.split.train_y.tolist()) == {0, 1}


def test_images_of_a_folder_are_trained_on(lab: "Lab") -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    shades = np.random.default_rng(0).integers(0, 100, (2, 12))
    for label, name in enumerate(("dark", "light")):
        (lab.data / name).mkdir()
        for number in range(12):
            shade = int(shades[label, number]) + 150 * label
            image.new("RGB", (10, 10), (shade, shade, 40)).save(lab.data / name / f"{number}.png")
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 2))
    graphs = export_step(net, nn.functional.cross_entropy, torch.zeros(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64))
    files = {"train.onnx": graphs.train, "eval.onnx": graphs.evaluate}
    manifest = BundleManifest(
        name="shades",
        version="1",
        task="classification",
        input_shape=(3, 8, 8),
        num_classes=2,
        preprocessing=ExamplePreprocessing(shape=(3, 8, 8), num_classes=2).model_dump(mode="json"),
        layout=tuple((tensor.name, tensor.shape, tensor.role) for tensor in graphs.layout.tensors),
        files=file_entries(files),
        estimated_peak_bytes=0,
    )
    archive = pack_bundle(sign_bundle(manifest, SigningKey(bytes(32))), files)
    bundle = lab.state / "bundles" / f"{hashlib.sha256(archive).hexdigest()}.gsb"
    bundle.write_bytes(archive)
    lab.model.write_bytes(initial_weights(net, graphs.layout).tobytes())
    settings = DataSourceSettings(kind="images", classes=("dark", "light"), image_size=(8, 8))
    order = lab.train_order(bundle=str(bundle), evaluate=True)
    answer = carry_out(lab, settings, order.model_copy(update={"work": order.work.model_copy(update={"steps": 30})}))
    assert isinstance(answer, Trained), answer
    trainer = InlineTrainer(lab.state, source_for(lab.data, settings), lambda: 0.0)
    trainer.submit(lab.evaluate_order(bundle=str(bundle)))
    [score] = trainer.poll()
    assert isinstance(score, Scored)
    assert score.examples > 0


@pytest.mark.parametrize(("channel_order", "first"), [(None, "red"), ("bgr", "blue")])
def test_images_come_in_the_order_of_colours_that_the_bundle_names(
    lab: "Lab", channel_order: str | None, first: str
) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    (lab.data / "red").mkdir()
    for number in range(8):
        image.new("RGB", (4, 4), (255, 0, 0)).save(lab.data / "red" / f"{number}.png")
    kept = read_archive(lab.state / "bundles" / f"{lab.task.bundle_digest}.gsb")
    fields = ExamplePreprocessing(shape=(3, 4, 4), num_classes=2, mean=(0, 0, 0), std=(1, 1, 1)).model_dump(mode="json")
    manifest = kept.manifest.model_copy(update={"preprocessing": fields | {"channel_order": channel_order}})
    settings = DataSourceSettings(kind="images", classes=("red", "blue"), image_size=(4, 4))
    found = Task(Bundle(manifest, kept.files), source_for(lab.data, settings)).split.train_x
    assert found[0, :, 0, 0].tolist() == [float(colour == first) for colour in ("red", "green", "blue")]
