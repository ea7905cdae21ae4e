"""`gradsieve export` and `gradsieve bundle inspect`, on the example of docs/export.md and on models that cannot be."""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from coordinator.assembly import prepare
from coordinator.job import load_job
from coordinator.main import app
from coordinator.run_folder import RunFolder
from edge_client.batches import batch_order, shuffled
from edge_client.data import MemorySource, Recordings
from edge_client.task import Task
from shared.bundle import pack_bundle, read_kept_bundle, sign_bundle
from shared.errors import BundleError, DataError, ExportError, GradsieveError, RunError, SettingsError, SignatureError
from shared.layout import F32
from shared.messages import LocalWork
from shared.signing import SigningKey

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")

OTHER_MODELS = """
import torch
from torch import nn

NUMBER = 3


class Summed(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(torch.cumsum(x, 1))


def image_net():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.SiLU(), nn.Flatten(), nn.Linear(2 * 6 * 6, 4))


def fine_tuned():
    net = nn.Sequential(nn.Conv1d(2, 40, 3), nn.SiLU(), nn.Flatten(), nn.Linear(40 * 6, 1))
    net[0].weight.requires_grad_(False)
    return net


class Placed(nn.Module):
    def __init__(self):
        super().__init__()
        self.word, self.place = nn.Embedding(40, 8), nn.Embedding(6, 8)
        self.head = nn.Linear(8, 2)
        self.register_buffer("places", torch.arange(6))

    def forward(self, x):
        return self.head((self.word(x) + self.place(self.places)).mean(1))


class Shifted(nn.Module):
    def __init__(self):
        super().__init__()
        self.word, self.head = nn.Embedding(41, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.word(x + 1).mean(1))


def words():
    return nn.Sequential(nn.Embedding(50, 8), nn.Flatten(), nn.Linear(8 * 6, 2))


def line():
    return nn.Linear(6, 2)


def needs(size):
    return nn.Linear(size, 3)


def text():
    return "net"


def broken():
    raise RuntimeError("out of pumps")
"""


def blocks(kind: str) -> list[str]:
    """The document's blocks of a language, in order."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    return [text for language, text in fenced if language == kind]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, in which the user's modules lie."""
    torch.set_num_threads(1)
    for name in ("net", "models"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "net.py").write_text(blocks("python")[0], encoding="utf-8")
    (tmp_path / "models.py").write_text(OTHER_MODELS, encoding="utf-8")
    return tmp_path


def gradsieve(*words: str) -> str:
    """What a command prints; it must succeed."""
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def refusal(*words: str) -> GradsieveError:
    """The error that a command ends with, which must be one line."""
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, GradsieveError), error
    assert "\n" not in str(error)
    return error


def recordings(labels: list[int]) -> Recordings:
    """A recording a label, waves that are the faster, the larger it is."""
    draws, time = np.random.default_rng(1), np.arange(1024)[:, None]
    series: list[F32] = [
        (np.sin(time * (label + 1) / 4 + np.arange(3)) + 0.3 * draws.normal(size=(1024, 3))).astype(np.float32)
        for label in labels
    ]
    return Recordings(series, labels)


def test_example_of_the_document_exports_and_a_device_learns_by_it(folder: Path) -> None:
    commands = [line for line in blocks("")[0].splitlines() if line.startswith("gradsieve ")]
    assert [command.split()[1] for command in commands] == ["export", "bundle"]
    shown = [gradsieve(*shlex.split(command)[1:]) for command in commands]
    assert "near.weight" in shown[1]
    (folder / "pump.toml").write_text(blocks("toml")[0], encoding="utf-8")
    job, run = load_job(folder / "pump.toml"), RunFolder(folder / "run")
    run.path.mkdir()
    prepare(job, run, SigningKey.load(folder / "coordinator.key"))
    task = Task(read_kept_bundle(run.bundle.read_bytes()), MemorySource(recordings([0, 1, 2, 0, 1, 2])))
    weights = np.fromfile(run.initial, "<f4").astype(np.float32)
    work = LocalWork(steps=job.work.steps, batch_size=16, learning_rate=0.05, momentum=0.9, codec="partition", seed=1)
    batches = shuffled(task.split.train_x, task.split.train_y, work.batch_size, batch_order(1, 1, "dev"))
    before = task.runtime.evaluate(weights, task.split.test_x, task.split.test_y)
    task.runtime.train(weights, batches, work, lambda: True)
    after = task.runtime.evaluate(weights, task.split.test_x, task.split.test_y)
    assert after.loss < before.loss
    assert before.correct is not None
    assert after.correct is not None
    assert before.correct < after.correct <= after.examples


def test_inspection_as_json_tells_tensors_files_operators_and_signer(folder: Path) -> None:
    gradsieve("export", "net:PumpNet", "--input-shape", "3,128", "--out", "pump.gsb")
    facts = json.loads(gradsieve("bundle", "inspect", "pump.gsb", "--json"))
    assert (facts["name"], facts["version"], facts["task"]) == ("pumpnet", "1", "classification")
    assert facts["input_shape"] == [3, 128]
    assert (facts["preprocessing"]["window"], facts["preprocessing"]["stride"], facts["num_classes"]) == (128, 64, 3)
    assert facts["tensors"][0] == {
        "name": "near.weight",
        "shape": [16, 3, 5],
        "role": "weight",
        "values": 240,
        "blocks": 4,
    }
    assert facts["values"] == sum(tensor["values"] for tensor in facts["tensors"])
    assert facts["blocks"] == sum(tensor["blocks"] for tensor in facts["tensors"])
    assert set(facts["files"]) == {"train.onnx", "eval.onnx", "predict.onnx"}
    assert facts["files"]["train.onnx"]["operators"]["Gemm"] > 3
    assert facts["archive_bytes"] == (folder / "pump.gsb").stat().st_size
    assert facts["minimum_onnxruntime"] == "1.19.0"
    assert facts["signer"] == SigningKey.load(folder / "coordinator.key").verify_key.hex


def test_frozen_layer_is_one_block_and_a_single_score_means_two_classes(folder: Path) -> None:
    gradsieve("export", "models.py:fine_tuned", "--input-shape", "2,8")
    facts = json.loads(gradsieve("bundle", "inspect", "fine-tuned.gsb", "--json"))
    frozen = next(tensor for tensor in facts["tensors"] if tensor["name"] == "0.weight")
    assert (frozen["role"], frozen["values"], frozen["blocks"]) == ("frozen", 240, 1)
    assert facts["num_classes"] == 2


@pytest.mark.parametrize(
    ("factory", "options", "task", "preprocessing"),
    [
        (
            "models:image_net",
            ("--input-shape", "1,8,8", "--mean", "0.5", "--std", "0.25"),
            "classification",
            {"kind": "examples", "shape": [1, 8, 8], "mean": [0.5], "std": [0.25], "num_classes": 4},
        ),
        (
            "models:words",
            ("--input-shape", "6", "--tokens"),
            "classification",
            {"kind": "examples", "shape": [6], "vocabulary": 50, "num_classes": 2},
        ),
        (
            "models:line",
            ("--input-shape", "6", "--regression", "--loss", "huber"),
            "regression",
            {"kind": "examples", "shape": [6], "targets": {"shape": [2]}, "num_classes": 2},
        ),
        (
            "models:line",
            ("--input-shape", "6", "--regression", "--loss", "binary-cross-entropy"),
            "regression",
            {"kind": "examples", "shape": [6], "targets": {"shape": [2], "bounds": [0.0, 1.0]}, "num_classes": 2},
        ),
        (
            "net:PumpNet",
            ("--input-shape", "3,64", "--stride", "5", "--regression"),
            "regression",
            {"kind": "windows", "channels": 3, "window": 64, "stride": 5, "gap_windows": 1, "targets": {"shape": [3]}}
            | {"num_classes": 3},
        ),
    ],
)
def test_bundle_says_how_devices_make_inputs_of_any_kind_and_a_run_takes_it(
    folder: Path, factory: str, options: tuple[str, ...], task: str, preprocessing: dict[str, object]
) -> None:
    gradsieve("export", factory, *options, "--out", "other.gsb")
    facts = json.loads(gradsieve("bundle", "inspect", "other.gsb", "--json"))
    assert facts["task"] == task
    assert facts["preprocessing"] == preprocessing | {"test_fraction": 0.25}
    (folder / "job.toml").write_text('name = "other"\ntask = "other.gsb"\n', encoding="utf-8")
    run = RunFolder(folder / "run")
    run.path.mkdir()
    prepare(load_job(folder / "job.toml"), run, SigningKey.load(folder / "coordinator.key"))
    assert run.bundle.read_bytes() == (folder / "other.gsb").read_bytes()


def test_bundle_that_does_not_say_how_to_make_inputs_is_refused_by_a_run(folder: Path) -> None:
    gradsieve("export", "models:line", "--input-shape", "6", "--out", "other.gsb")
    key = SigningKey.load(folder / "coordinator.key")
    kept = read_kept_bundle((folder / "other.gsb").read_bytes())
    manifest = sign_bundle(kept.manifest.model_copy(update={"preprocessing": {}}), key)
    (folder / "other.gsb").write_bytes(pack_bundle(manifest, kept.files))
    (folder / "job.toml").write_text('name = "other"\ntask = "other.gsb"\n', encoding="utf-8")
    with pytest.raises(RunError, match=r"other\.gsb: it does not say how recordings become inputs"):
        prepare(load_job(folder / "job.toml"), RunFolder(folder), key)


def test_vocabulary_is_that_of_the_embedding_that_reads_the_inputs_and_not_of_positions(folder: Path) -> None:
    gradsieve("export", "models:Placed", "--input-shape", "6", "--tokens", "--out", "other.gsb")
    facts = json.loads(gradsieve("bundle", "inspect", "other.gsb", "--json"))
    assert facts["preprocessing"]["vocabulary"] == 40
    gradsieve("export", "models:words", "--input-shape", "6", "--tokens", "--vocabulary", "30", "--out", "other.gsb")
    facts = json.loads(gradsieve("bundle", "inspect", "other.gsb", "--json"))
    assert facts["preprocessing"]["vocabulary"] == 30


@pytest.mark.parametrize(
    ("words", "kind", "text"),
    [
        (
            ("models:Summed", "6"),
            ExportError,
            r"aten\.cumsum\.default has no ONNX rule; used at .*models\.py:\d+: return",
        ),
        (("models:Absent", "6"), ExportError, "models has no Absent: choose one of Placed, Shifted, Summed, broken, "),
        (("absent:Net", "6"), ExportError, "absent: no such module: work in the folder where it lies"),
        (("absent.py:Net", "6"), ExportError, r"absent\.py: there is no such file"),
        (("models", "6"), ExportError, "not of the form module:name"),
        (("models:NUMBER", "6"), ExportError, "is of type int: name a class or function"),
        (("models:text", "6"), ExportError, "returns a value of type str: return a torch.nn.Module"),
        (("models:needs", "6"), ExportError, "must make a module without arguments, but fails: TypeError: "),
        (("models:broken", "6"), ExportError, r"RuntimeError: out of pumps; at .*models\.py:\d+: raise"),
        (("models:line", "7"), ExportError, r"the model fails on inputs of shape \(7,\): RuntimeError: "),
        (("models:line", "6,x"), SettingsError, "--input-shape 6,x: give one to eight sizes"),
        (("models:line", "6", "--loss", "cosine"), ExportError, "no loss is called cosine: choose cross-entropy, "),
        (("models:line", "6", "--out", "net.onnx"), RunError, r"net\.onnx: a bundle's name ends in \.gsb"),
        (("models:line", "6", "--name", "a b"), ExportError, "bundle a b: name: "),
        (("models:line", "6", "--stride", "2"), ExportError, r"shape \(6,\) are no windows .*leave --stride out"),
        (("models:line", "6", "--mean", "1,x"), SettingsError, "--mean 1,x: give a number for each channel"),
        (("models:line", "6", "--mean", "1"), ExportError, r"inputs of shape \(6,\): mean and std go together"),
        (("models:image_net", "1,8,8", "--bgr"), ExportError, "channel_order is of images"),
        (("models:Shifted", "6", "--tokens"), ExportError, "no nn.Embedding of the model reads .*say --vocabulary N"),
        (("models:words", "6", "--tokens", "--vocabulary", "51"), ExportError, "an embedding .* knows 50 tokens"),
    ],
)
def test_what_cannot_be_exported_is_one_line_with_a_remedy(
    folder: Path, words: tuple[str, ...], kind: type[GradsieveError], text: str
) -> None:
    factory, shape, *options = words
    error = refusal("export", factory, "--input-shape", shape, *options)
    assert isinstance(error, kind)
    assert re.search(text, str(error)), str(error)


def test_bundle_that_is_missing_damaged_or_altered_is_refused(folder: Path) -> None:
    assert isinstance(refusal("bundle", "inspect", "absent.gsb"), DataError)
    (folder / "no.gsb").write_bytes(b"gsb\x02")
    assert isinstance(refusal("bundle", "inspect", "no.gsb"), BundleError)
    gradsieve("export", "models:line", "--input-shape", "6", "--out", "line.gsb")
    whole = (folder / "line.gsb").read_bytes()
    (folder / "cut.gsb").write_bytes(whole[:-9])
    assert isinstance(refusal("bundle", "inspect", "cut.gsb"), BundleError)
    (folder / "altered.gsb").write_bytes(whole.replace(b'"num_classes":2', b'"num_classes":3'))
    assert isinstance(refusal("bundle", "inspect", "altered.gsb"), SignatureError)


def test_run_refuses_an_export_of_another_key_or_without_its_weights(folder: Path) -> None:
    gradsieve("export", "net:PumpNet", "--input-shape", "3,128", "--out", "pump.gsb")
    (folder / "pump.toml").write_text(blocks("toml")[0], encoding="utf-8")
    job = load_job(folder / "pump.toml")
    with pytest.raises(RunError, match=r"pump\.gsb: .*not among the trusted keys"):
        prepare(job, RunFolder(folder), SigningKey(bytes(32)))
    (folder / "pump.safetensors").unlink()
    with pytest.raises(RunError, match=r"pump\.safetensors: No such file"):
        prepare(job, RunFolder(folder), SigningKey.load(folder / "coordinator.key"))
