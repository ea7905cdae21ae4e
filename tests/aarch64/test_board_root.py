import os
import platform
import shutil
import sys
from pathlib import Path

import pytest

from tests.aarch64.board_root import root_folder, why_not


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine that has the rights and every program but those that a test takes away."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return monkeypatch


def without(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None if program == absent else f"/usr/bin/{program}")


def test_without_root_privileges_the_reason_says_so(able: pytest.MonkeyPatch, tmp_path: Path) -> None:
    able.setattr(os, "geteuid", lambda: 1000)
    assert "root privileges" in str(why_not(tmp_path))


def test_on_another_system_the_reason_names_it(able: pytest.MonkeyPatch, tmp_path: Path) -> None:
    able.setattr(sys, "platform", "darwin")
    assert "darwin" in str(why_not(tmp_path))


def test_a_missing_emulator_is_named_with_its_package(able: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without(able, "qemu-aarch64-static")
    assert why_not(tmp_path) == "qemu-aarch64-static is not installed: apt install qemu-user-static"


def test_debootstrap_is_needed_only_while_there_is_no_root(able: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without(able, "debootstrap")
    assert "apt install debootstrap" in str(why_not(tmp_path))
    root_folder(tmp_path).mkdir()
    assert "debootstrap" not in str(why_not(tmp_path))
