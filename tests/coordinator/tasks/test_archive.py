import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.tasks.archive import members
from shared.errors import DataError

Pack = Callable[[dict[str, bytes]], Path]


def test_only_files_of_the_suffix_are_read(pack: Pack) -> None:
    packed = pack({"a/1.wav": b"one", "a/notes.md": b"", "b/2.wav": b"two"})
    read = [(str(name), content) for name, content in members(packed, ".wav")]
    assert read == [("a/1.wav", b"one"), ("b/2.wav", b"two")]


def test_link_out_of_the_archive_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").write_bytes(b"secret")
    with tarfile.open(tmp_path / "some.tar.xz", "w:xz") as tar:
        link = tarfile.TarInfo("a/1.wav")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret.wav")
        tar.addfile(link)
    assert list(members(tmp_path / "some.tar.xz", ".wav")) == []


@pytest.mark.parametrize("cut", [0, 30, 5_000])
def test_archive_that_is_cut_off_is_refused(pack: Pack, cut: int) -> None:
    packed = pack({"a/1.wav": random.Random(0).randbytes(10_000)})
    packed.write_bytes(packed.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"some\.tar\.xz is not a whole archive"):
        list(members(packed, ".wav"))
