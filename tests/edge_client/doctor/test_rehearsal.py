"""The trainer's part of the examination, in processes of its own that may fail in every way."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from edge_client.data_settings import DataSourceSettings
from edge_client.doctor import rehearsal
from edge_client.doctor.finding import Mark
from edge_client.settings import EdgeSettings
from shared.signing import SigningKey


@pytest.fixture
def settings(tmp_path: Path) -> EdgeSettings:
    (tmp_path / "data").mkdir()
    return EdgeSettings(name="b", data=tmp_path / "data", trusted_signers=(SigningKey(bytes(32)).verify_key.hex,))


def record(settings: EdgeSettings, name: str, label: int, value: float = 1.0) -> None:
    np.savez(settings.data / f"{name}.npz", x=np.full((20, 3), value, np.float32), y=np.int64(label))


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, **more}


def sabotaged(folder: Path, module: str, code: str) -> dict[str, str]:
    """An environment in which `module` is this code."""
    (folder / f"{module}.py").write_text(code)
    root = Path(__file__).parents[3]
    return environment(PYTHONPATH=f"{folder}:{root}")


def test_training_step_comes_out_right_here() -> None:
    (found,) = rehearsal.training(environment())
    assert found.mark is Mark.OK, found
    assert "onnxruntime" in found.text


def test_missing_onnxruntime_is_told_with_the_command_that_installs_it(tmp_path: Path) -> None:
    (found,) = rehearsal.training(sabotaged(tmp_path, "onnxruntime", "raise ImportError('no onnxruntime')"))
    assert found.mark is Mark.FAIL
    assert "gradsieve[edge]" in found.remedy


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGILL, "does not run onnxruntime"), (signal.SIGKILL, "end other programs")]
)
def test_process_that_dies_is_a_finding(tmp_path: Path, number: signal.Signals, words: str) -> None:
    code = f"import os\nos.kill(os.getpid(), {number.value})\n"
    (found,) = rehearsal.training(sabotaged(tmp_path, "onnxruntime", code))
    assert found.mark is Mark.FAIL
    assert words in found.remedy


def test_wrong_result_is_a_finding(tmp_path: Path) -> None:
    code = "import edge_client.doctor.known_step as step\nstep.KNOWN['norm'] += 0.001\n"
    (found,) = rehearsal.training(sabotaged(tmp_path, "sitecustomize", code))
    assert found.mark is Mark.FAIL
    assert "computes norm" in found.text


def test_process_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "STEP_SECONDS", 1.0)
    (found,) = rehearsal.training(sabotaged(tmp_path, "onnxruntime", "import time\ntime.sleep(60)\n"))
    assert found.mark is Mark.FAIL
    assert "1 s" in found.text


def test_recordings_are_counted(settings: EdgeSettings) -> None:
    for number in range(3):
        record(settings, str(number), number % 2)
    (found,) = rehearsal.data(settings, environment())
    assert (found.mark, found.text) == (Mark.OK, "3 recordings of 2 classes, 0.0 MB in memory")


def test_data_is_read_as_the_settings_of_its_source_say(settings: EdgeSettings) -> None:
    np.savez(settings.data / "all.npz", x=np.ones((5, 4, 3), np.float32), y=np.arange(5) % 3)
    arrays = settings.model_copy(update={"data_source": DataSourceSettings(kind="arrays")})
    (found,) = rehearsal.data(arrays, environment())
    assert found.text.startswith("5 recordings of 3 classes")
    assert rehearsal.data(settings, environment())[0].mark is Mark.FAIL, "these are no recordings"


def test_one_class_alone_is_warned_of(settings: EdgeSettings) -> None:
    record(settings, "only", 1)
    (found,) = rehearsal.data(settings, environment())
    assert found.mark is Mark.WARN


def test_value_that_is_no_number_is_named_by_its_file(settings: EdgeSettings) -> None:
    record(settings, "good", 0)
    record(settings, "holed", 1, value=float("nan"))
    (found,) = rehearsal.data(settings, environment())
    assert found.mark is Mark.FAIL
    assert "holed.npz" in found.text


def test_folder_without_recordings_is_told(settings: EdgeSettings) -> None:
    (found,) = rehearsal.data(settings, environment())
    assert found.mark is Mark.FAIL
    assert "no .npz file" in found.text


def test_folder_that_is_not_there_is_told(settings: EdgeSettings) -> None:
    settings.data.rmdir()
    (found,) = rehearsal.data(settings, environment())
    assert found.mark is Mark.FAIL
