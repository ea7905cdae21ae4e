import subprocess
import sys
from pathlib import Path

import pytest

from shared.errors import FolderInUse, SettingsError
from shared.folder_lock import folder_lock

HOLDER = """
import sys
from pathlib import Path
from shared.folder_lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_lock_makes_the_folder_and_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with folder_lock(tmp_path / "a" / "b"):
            assert (tmp_path / "a" / "b").is_dir()


def test_holder_is_named_and_its_death_frees_the_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(FolderInUse, match=f"process {holder.pid} works in it: end that one"), folder_lock(tmp_path):
            pass
        holder.kill()
    with folder_lock(tmp_path):
        pass


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(SettingsError, match=r"file/x: Not a directory: choose one"),
        folder_lock(tmp_path / "file" / "x"),
    ):
        pass
