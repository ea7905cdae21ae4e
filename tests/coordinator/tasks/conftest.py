import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

Pack = Callable[[dict[str, bytes]], Path]


@pytest.fixture
def nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a shelf of data sets nor a cache."""
    monkeypatch.setenv("GRADSIEVE_DATA", str(tmp_path / "shelf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Writes files, by name, into an archive as data sets come in."""

    def write(files: dict[str, bytes]) -> Path:
        path = tmp_path / "some.tar.xz"
        with tarfile.open(path, "w:xz") as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        return path

    return write
