from pathlib import Path

import numpy as np
import pytest

from coordinator.tasks import shelf
from coordinator.tasks.shelf import find, kept
from shared.errors import DataError


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "BESIDE_CHECKOUT", tmp_path / "beside")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("GRADSIEVE_DATA", raising=False)


def _put(folder: Path, text: str = "") -> Path:
    path = folder / "set" / "file.txt"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_named_folder_is_asked_instead_of_the_one_beside_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, named = _put(tmp_path / "beside"), _put(tmp_path / "named")
    assert find("set", "file.txt", "a friend") == beside
    monkeypatch.setenv("GRADSIEVE_DATA", str(tmp_path / "named"))
    assert find("set", "file.txt", "a friend") == named
    named.unlink()
    with pytest.raises(DataError, match="get it from a friend"):
        find("set", "file.txt", "a friend")


def test_cache_is_asked_last(tmp_path: Path) -> None:
    cached = _put(tmp_path / "cache" / "gradsieve")
    assert find("set", "file.txt", "a friend") == cached
    beside = _put(tmp_path / "beside")
    assert find("set", "file.txt", "a friend") == beside


def test_arrays_are_made_once_of_the_same_content(tmp_path: Path) -> None:
    origin = _put(tmp_path, "one")
    made: dict[str, np.ndarray] = {"x": np.arange(3, dtype=np.float32), "y": np.zeros((2, 0), np.uint8)}
    first = kept("halves", origin, lambda: made)
    again = kept("halves", origin, lambda: pytest.fail("made twice"))
    for arrays in (first, again):
        assert arrays["x"].tolist() == [0, 1, 2]
        assert {name: (part.dtype, part.shape) for name, part in arrays.items()} == {
            name: (part.dtype, part.shape) for name, part in made.items()
        }
    assert len(list((tmp_path / "cache" / "gradsieve").iterdir())) == 1


def test_arrays_are_made_anew_of_other_content_or_by_another_name(tmp_path: Path) -> None:
    origin = _put(tmp_path, "one")
    kept("halves", origin, lambda: {"x": np.zeros(1)})
    assert kept("thirds", origin, lambda: {"x": np.ones(1)})["x"].tolist() == [1]
    origin.write_text("two")
    assert kept("halves", origin, lambda: {"x": np.ones(1)})["x"].tolist() == [1]


def test_failure_while_making_leaves_nothing_in_the_cache(tmp_path: Path) -> None:
    def fail() -> dict[str, np.ndarray]:
        raise DataError("spoilt")

    with pytest.raises(DataError, match="spoilt"):
        kept("halves", _put(tmp_path), fail)
    assert not list((tmp_path / "cache").rglob("*.npz"))
