import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from coordinator.tasks import shelf, watch
from coordinator.tasks.baselines import alone_accuracies, pooled_accuracy
from coordinator.tasks.task import ClientData, Task, export_folder
from coordinator.tasks.watch import PREPROCESSING, WATCH, WatchNet
from shared.errors import DataError
from shared.preprocessing import Preprocessing, cut

TINY = Preprocessing(channels=2, window=4, stride=2, num_classes=2, mean=(0, 0), std=(1, 1))


def _homes(monkeypatch: pytest.MonkeyPatch, cache: Path, named: Path | None = None) -> None:
    monkeypatch.setattr(shelf, "BESIDE_CHECKOUT", cache / "nothing")
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    if named is None:
        monkeypatch.delenv("GRADSIEVE_DATA", raising=False)
    else:
        monkeypatch.setenv("GRADSIEVE_DATA", str(named))


def _made_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A small file of the data set's form, which the task is told to take for the genuine one."""
    rng = np.random.default_rng(0)
    series = np.empty(4, object)
    series[:] = [rng.normal(size=(700 + 50 * i, 6)) for i in range(4)]
    np.save(
        path, np.array({"X": series, "y": np.arange(4), "subject": np.array([2, 1, 2, 1])}, object), allow_pickle=True
    )
    content = path.read_bytes()
    monkeypatch.setattr(watch, "FILE_SHA256", hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(watch, "FILE_BYTES", len(content))
    return content


def _pip_that_serves(content: bytes, member: str = watch.WHEEL_MEMBER) -> object:
    def run(command: list[str], **_: object) -> None:
        with zipfile.ZipFile(Path(command[-1]) / "seglearn-1.2.5-py3-none-any.whl", "w") as wheel:
            wheel.writestr(member, content)

    return run


def test_data_on_the_shelf_is_found_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _homes(monkeypatch, tmp_path / "cache", tmp_path)
    kept = tmp_path / "seglearn-watch" / watch.FILE_NAME
    kept.parent.mkdir()
    kept.touch()
    assert watch.find_file() == kept


def test_absent_data_is_fetched_once_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _homes(monkeypatch, tmp_path / "cache", tmp_path)
    content = _made_up(tmp_path / "source.npy", monkeypatch)
    monkeypatch.setattr(subprocess, "run", _pip_that_serves(content))
    cached = watch.find_file()
    assert cached == tmp_path / "cache" / "gradsieve" / watch.FILE_NAME
    assert cached.read_bytes() == content
    assert list(cached.parent.iterdir()) == [cached]

    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("fetched twice"))
    assert watch.find_file() == cached


def test_wearers_become_clients_with_float32_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _homes(monkeypatch, tmp_path)
    content = _made_up(tmp_path / "source.npy", monkeypatch)
    monkeypatch.setattr(subprocess, "run", _pip_that_serves(content))
    clients = watch.clients()
    assert [(client.name, client.labels) for client in clients] == [("wearer-01", [1, 3]), ("wearer-02", [0, 2])]
    assert clients[1].series[1].shape == (800, 6)
    assert clients[1].series[1].dtype == np.float32


def test_file_of_another_digest_is_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / watch.FILE_NAME
    path.write_bytes(b"not the data")
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("unpickled"))
    with pytest.raises(DataError, match=r"watch_dataset\.npy .* delete it"):
        watch.read_clients(path)


def test_failed_download_names_reason_and_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **_: object) -> None:
        raise subprocess.CalledProcessError(1, command, stderr="looking\nERROR: no route to the index\n")

    _homes(monkeypatch, tmp_path)
    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(DataError, match=r"no route to the index.*pip download .*GRADSIEVE_DATA"):
        watch.find_file()
    assert list((tmp_path / "gradsieve").iterdir()) == []


def test_slow_download_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    _homes(monkeypatch, tmp_path)
    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(DataError, match="within 120 seconds"):
        watch.find_file()


def test_wheel_without_the_data_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _homes(monkeypatch, tmp_path)
    monkeypatch.setattr(subprocess, "run", _pip_that_serves(b"", member="seglearn/other.npy"))
    with pytest.raises(DataError, match="holds no seglearn/data/watch_dataset"):
        watch.find_file()


def test_download_asks_this_interpreters_pip_for_the_pinned_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **settings: object) -> None:
        asked.append(command)
        raise subprocess.CalledProcessError(1, command, stderr="")

    _homes(monkeypatch, tmp_path)
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DataError, match="no reason given"):
        watch.find_file()
    assert asked[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "seglearn==1.2.5"} < set(asked[0])


def test_model_fits_its_example() -> None:
    model, (x, y) = WATCH.model(), WATCH.example()
    assert sum(weights.numel() for weights in model.parameters()) == 24_103
    assert x.shape[1:] == (6, 100)
    assert model(x).shape == (len(y), PREPROCESSING.num_classes)
    assert WATCH.loss(model(x), y).ndim == 0


def test_fresh_model_keeps_the_scale_of_its_input() -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        x = WatchNet().near(torch.randn(64, 6, 100))
        assert x.std() == pytest.approx(2**0.5, rel=0.2)
        assert WatchNet()(torch.zeros(1, 6, 100)).tolist() == [[0.0] * 7]


def test_exported_folder_holds_one_archive_a_series(tmp_path: Path) -> None:
    series = [np.full((5, 6), i, np.float32) for i in range(2)]
    export_folder(ClientData("wearer-01", series, [3, 6]), tmp_path / "new" / "folder")
    with np.load(tmp_path / "new" / "folder" / "series-001.npz") as archive:
        assert archive["x"].dtype == np.float32
        assert (archive["x"] == series[1]).all()
        assert archive["y"].dtype == np.int64
        assert (archive["y"].shape, int(archive["y"])) == ((), 6)
    assert len(list((tmp_path / "new" / "folder").iterdir())) == 2


def _two_sided_task() -> Task:
    """Clients that each know one class well; only together do they know both."""
    rng = np.random.default_rng(1)
    quiet, loud = (rng.normal(0, scale, (400, 2)).astype(np.float32) for scale in (0.3, 3.0))
    mixed = [ClientData("both", [quiet[:200], loud[:200]], [0, 1]), ClientData("quiet", [quiet[200:]], [0])]

    def model() -> torch.nn.Module:
        return torch.nn.Sequential(
            torch.nn.Conv1d(2, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(16, 2)
        )

    return Task("two-sided", TINY, model, torch.nn.functional.cross_entropy, lambda: mixed)


def test_pooling_beats_the_client_that_never_saw_a_class() -> None:
    task = _two_sided_task()
    pooled, alone = pooled_accuracy(task, 200, seed=0), list(alone_accuracies(task, 200, seed=0))
    assert pooled > 0.9
    assert alone[0] > 0.9
    # All quiet: half right on the first client's windows, all right on its own.
    assert alone[1] == pytest.approx(0.75)


def test_baselines_repeat_and_leave_torch_as_they_found_it() -> None:
    task, threads, state = _two_sided_task(), torch.get_num_threads(), torch.get_rng_state()
    assert pooled_accuracy(task, 5, seed=3) == pooled_accuracy(task, 5, seed=3)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.skipif("GRADSIEVE_DATA" not in os.environ, reason="needs the watch data under $GRADSIEVE_DATA")
def test_genuine_data_gives_the_known_windows() -> None:
    splits = [cut(client.series, client.labels, PREPROCESSING) for client in watch.clients()]
    assert len(splits) == 10
    assert sum(len(split.train_y) for split in splits) == 3_453
    assert sum(len(split.test_y) for split in splits) == 732
    assert WatchNet()(torch.from_numpy(splits[0].test_x)).shape == (len(splits[0].test_y), 7)
