import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from shared.durable_file import write_durably


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "state.bin"
    path.write_bytes(b"old")
    return path


def test_parts_become_the_content(path: Path) -> None:
    write_durably(path, b"new", memoryview(b" and whole"))
    assert path.read_bytes() == b"new and whole"
    assert list(path.parent.iterdir()) == [path]


def test_content_is_on_disk_before_its_name_and_the_name_before_the_return(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        steps.append("folder" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes")
        fsync(descriptor)

    def rename(source: Path, target: Path) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    write_durably(path, b"content")
    assert steps == ["7 bytes", "rename", "folder"]


@pytest.mark.parametrize(
    ("broken", "call", "left"),
    [("fsync", 1, b"old"), ("replace", 1, b"old"), ("fsync", 2, b"new")],
    ids=["content", "rename", "folder"],
)
def test_fault_at_any_step_leaves_old_or_new_and_no_temporary_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, call: int, left: bytes
) -> None:
    real, calls = getattr(os, broken), 0

    def fault(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    monkeypatch.setattr(os, broken, fault)
    with pytest.raises(OSError, match="No space left"):
        write_durably(path, b"new")
    assert path.read_bytes() == left
    assert list(path.parent.iterdir()) == [path]


LIMITED = """
import resource, signal, sys
from pathlib import Path
from shared.durable_file import write_durably
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_durably(Path(sys.argv[1]), bytes(900), bytes(900))
except OSError as error:
    print(error.strerror)
"""


def test_disk_that_fills_up_amid_the_content_keeps_the_old(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], stdout=subprocess.PIPE, check=True, text=True)
    assert done.stdout == "File too large\n"
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_durably(tmp_path / "absent" / "state.bin", b"new")
