"""The unit of the client: what systemd itself says of it, without running it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_client.cli import parse_command_line

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "gradsieve-edge.service"
MOST_EXPOSURE = 2.0
SECONDS = 60.0

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: apt install systemd"
)


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"SYSTEMD_PAGER": "cat", "LC_ALL": "C.UTF-8"}
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS)


@needs_systemd
def test_exposure_is_low() -> None:
    done = analyze("security", "--offline=true", str(UNIT))
    found = re.search(r"Overall exposure level for gradsieve-edge.service: ([\d.]+)", done.stdout)
    if found is None:
        pytest.skip(f"this systemd-analyze cannot judge a unit offline: {done.stderr.strip()[:200]}")
    assert float(found[1]) <= MOST_EXPOSURE, done.stdout


@needs_systemd
def test_unit_has_no_fault_once_the_program_is_there(tmp_path: Path) -> None:
    program = tmp_path / "current" / "bin" / "gradsieve-edge"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/gradsieve", str(tmp_path)))
    done = analyze("verify", str(unit))
    assert (done.returncode, done.stderr) == (0, "")


def test_command_of_the_unit_is_one_that_the_client_takes() -> None:
    command = re.search(r"^ExecStart=\S+/gradsieve-edge (.*)$", UNIT.read_text(), re.MULTILINE)
    assert command is not None
    assert str(parse_command_line(command[1].split()).config) == "/etc/gradsieve/client.toml"
