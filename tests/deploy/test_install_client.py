"""The installer of the client, run as it is on a root folder of its own, on a board made of fake programs."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from edge_client.settings import ENV_PREFIX, EdgeSettings
from shared.settings import load_settings

DEPLOY = Path(__file__).parents[2] / "deploy"
SCRIPT = DEPLOY / "install-client.sh"
UNIT = DEPLOY / "systemd" / "gradsieve-edge.service"
SETTINGS, STATE = "etc/gradsieve/client.toml", "var/lib/gradsieve-edge"
INSTALLED_UNIT = "etc/systemd/system/gradsieve-edge.service"
SECONDS = 60.0

# A Python that can make environments, which hold this very program again, and in them a pip that writes down its call.
PYTHON = r"""
case "$*" in
"-c import sys; sys.exit"*) [ "$BOARD_PYTHON" != 3.9 ] ;;
"-c import ensurepip, venv") [ -n "$BOARD_VENV" ] ;;
"-c import sys; print"*) echo "$BOARD_PYTHON" ;;
--version) echo "Python $BOARD_PYTHON" ;;
"-c ") ;;
"-m venv "*)
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    echo fake >"$3/pyvenv.cfg" ;;
"-m pip "*) [ -z "$BOARD_PIP_FAILS" ] || { echo "no such wheel" >&2; exit 1; } ;;
*) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""

PROGRAMS = {
    "uname": 'if [ "$1" = -m ]; then echo "$BOARD_PROCESSOR"; else echo Board-1.example; fi',
    "getconf": 'case $1 in LONG_BIT) echo "$BOARD_BITS" ;; *) [ -n "$BOARD_LIBC" ] && echo "$BOARD_LIBC" ;; esac',
    "df": 'echo header; echo "fs 9999999 1 $((BOARD_FREE_MB * 1024)) 1% /"',
    "date": 'case $1 in +%s) echo "$BOARD_SECONDS" ;; *) echo 1970-01-01 ;; esac',
    # The user exists once `useradd` was called, and this user is nobody or root as the test says.
    "id": 'if [ $# = 1 ]; then echo "$BOARD_USER"; else grep -q "^useradd" "$CALLS"; fi',
    "systemctl": """
case "$*" in
*is-enabled*) grep -q "^systemctl.* enable" "$CALLS" ;;
esac""",
    **dict.fromkeys(("useradd", "userdel", "chown"), ""),
    "python3": PYTHON,
}
GOOD = {
    "BOARD_PROCESSOR": "aarch64",
    "BOARD_BITS": "64",
    "BOARD_LIBC": "glibc 2.36",
    "BOARD_PYTHON": "3.11",
    "BOARD_VENV": "yes",
    "BOARD_FREE_MB": "900",
    "BOARD_SECONDS": str(int(time.time())),
    "BOARD_USER": "0",
    "BOARD_PIP_FAILS": "",
}


@dataclass(frozen=True)
class Board:
    """Fake programs in `bin` that write down each call, and a root folder."""

    folder: Path
    script: Path = SCRIPT

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    @property
    def changing_calls(self) -> list[str]:
        harmless = ("uname", "getconf", "df", "date", "id", "python3 -c", "python -c", "python3 --version")
        queries = ("is-enabled", "is-active")
        return [call for call in self.calls if not call.startswith(harmless) and not any(q in call for q in queries)]

    def __call__(self, *arguments: str, answer: str = "", **differences: str) -> "subprocess.CompletedProcess[str]":
        environment = {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "CALLS": str(self.folder / "calls")}
        command = ["/bin/sh", str(self.script), "--root", str(self.root), *arguments]
        run = partial(subprocess.run, capture_output=True, text=True, timeout=SECONDS)
        done: subprocess.CompletedProcess[str] = run(command, input=answer, env=environment | GOOD | differences)
        return done

    def tree(self) -> Mapping[str, tuple[int, bytes]]:
        """Every file below the root: mode and content."""
        files = [path for path in self.root.rglob("*") if path.is_file() and not path.is_symlink()]
        return {str(path.relative_to(self.root)): (path.stat().st_mode, path.read_bytes()) for path in files}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in PROGRAMS.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nprintf "%s %s\\n" "${{0##*/}}" "$*" >>"$CALLS"\n{body}\n')
        program.chmod(0o755)
    (tmp_path / "root").mkdir()
    (tmp_path / "calls").touch()
    (tmp_path / "gradsieve-0.1.0-py3-none-any.whl").write_bytes(b"a wheel")
    return Board(tmp_path)


@pytest.fixture
def wheel(board: Board) -> tuple[str, str]:
    return "--wheel", str(board.folder / "gradsieve-0.1.0-py3-none-any.whl")


def refused(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The one line of a refusal."""
    assert done.returncode == code, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("install-client: ")]
    assert len(lines) == 1
    assert ": " in lines[0].removeprefix("install-client: "), "a refusal names the fault and, after a colon, the remedy"
    return lines[0]


@pytest.mark.parametrize("shell", [("sh", "-n"), ("dash", "-n"), ("bash", "-n"), ("shellcheck",)], ids=" ".join)
def test_script_passes_the_checks_of_its_shells(shell: tuple[str, ...]) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    done = subprocess.run([*shell, str(SCRIPT)], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_first_run_installs_everything_a_service_needs(board: Board, wheel: tuple[str, str]) -> None:
    done = board(*wheel)
    assert done.returncode == 0, done.stderr
    current = board.root / "opt/gradsieve/current"
    assert (current / "complete").read_text().strip() == current.readlink().name
    assert (board.root / SETTINGS).stat().st_mode & 0o777 == 0o640
    assert (board.root / STATE).stat().st_mode & 0o777 == 0o700
    assert (board.root / STATE / "data").is_dir()
    assert (board.root / INSTALLED_UNIT).read_text() == UNIT.read_text()
    calls = "\n".join(board.changing_calls)
    assert f"pip install --quiet --disable-pip-version-check --no-cache-dir {wheel[1]}[edge]" in calls
    assert re.search(r"^useradd --system .* gradsieve-edge$", calls, re.MULTILINE)
    assert f"chown gradsieve-edge:gradsieve-edge {board.root / STATE}" in calls
    assert f"systemctl --root={board.root} --quiet enable gradsieve-edge.service" in calls
    assert "doctor --config /etc/gradsieve/client.toml" in done.stdout


def test_written_settings_load_and_name_the_board_after_its_host(board: Board, wheel: tuple[str, str]) -> None:
    assert board(*wheel).returncode == 0
    settings = load_settings(EdgeSettings, board.root / SETTINGS, ENV_PREFIX, {})
    assert settings.name == "board-1-example"
    assert str(settings.state_dir).startswith(f"/{STATE}/")


def test_second_run_changes_nothing_and_says_so(board: Board, wheel: tuple[str, str]) -> None:
    board(*wheel)
    tree, calls = board.tree(), board.changing_calls
    done = board(*wheel, BOARD_FREE_MB="1")
    assert done.returncode == 0, "a board that is full after the installation needs no more room"
    assert done.stdout == "nothing to change: gradsieve-edge.service is installed as it should be\n"
    assert (board.tree(), board.changing_calls) == (tree, calls)


def test_settings_of_the_operator_are_never_overwritten(board: Board, wheel: tuple[str, str]) -> None:
    settings = board.root / SETTINGS
    settings.parent.mkdir(parents=True)
    settings.write_text("not even TOML")
    assert board(*wheel).returncode == 0
    assert settings.read_text() == "not even TOML"


def test_dry_run_says_what_it_would_do_and_touches_nothing(board: Board, wheel: tuple[str, str]) -> None:
    done = board(*wheel, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert board.tree() == {}
    assert not list(board.root.iterdir())
    assert board.changing_calls == []
    assert "would install the service" in done.stdout


def test_dry_run_of_a_removal_removes_nothing(board: Board, wheel: tuple[str, str]) -> None:
    board(*wheel)
    tree, calls = board.tree(), board.changing_calls
    done = board("--uninstall", "--purge", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would delete /var/lib/gradsieve-edge" in done.stdout
    assert (board.tree(), board.changing_calls) == (tree, calls)


@pytest.mark.parametrize(
    ("code", "differences", "words"),
    [
        (10, {"BOARD_PROCESSOR": "armv7l"}, "onnxruntime is published for 64-bit ARM alone"),
        (10, {"BOARD_PROCESSOR": "riscv64"}, "riscv64"),
        (10, {"BOARD_BITS": "32"}, "a 32-bit system under a 64-bit kernel"),
        (11, {"BOARD_LIBC": "glibc 2.27"}, "older than 2.28"),
        (11, {"BOARD_LIBC": ""}, "no GNU C library"),
        (12, {"BOARD_PYTHON": "3.9"}, "Python 3.9 is older than 3.11"),
        (12, {"PYTHON": "python3.99"}, "python3.99 is not there"),
        (13, {"BOARD_FREE_MB": "399"}, "399 MB are free"),
        (14, {"BOARD_SECONDS": "0"}, "the clock says 1970-01-01"),
        (16, {"BOARD_VENV": ""}, "apt install python3-venv"),
    ],
)
def test_unfit_board_is_refused_with_the_remedy(
    board: Board, wheel: tuple[str, str], code: int, differences: dict[str, str], words: str
) -> None:
    assert words in refused(board(*wheel, **differences), code)
    assert board.tree() == {}
    assert board.changing_calls == []


@pytest.mark.parametrize("libc", ["glibc 2.28", "glibc 2.41", "glibc 3.0"])
def test_c_library_is_compared_by_number(board: Board, wheel: tuple[str, str], libc: str) -> None:
    assert board(*wheel, BOARD_LIBC=libc).returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["--colour"],
        ["--wheel"],
        ["--purge"],
        ["--wheel", "a.whl", "--offline", "wheels"],
        ["--prefix", "opt/gradsieve"],
        ["--prefix", "/"],
        ["--prefix", "/opt/../usr"],
        ["--prefix", "/opt/my programs"],
    ],
    ids=" ".join,
)
def test_wrong_command_line_ends_with_code_2(board: Board, arguments: list[str]) -> None:
    refused(board(*arguments), 2)
    assert board.changing_calls == []


def test_missing_wheel_is_named(board: Board) -> None:
    assert "nowhere.whl" in refused(board("--wheel", "nowhere.whl"), 17)


def test_offline_folder_without_our_wheel_is_refused(board: Board, tmp_path: Path) -> None:
    assert "no wheel of gradsieve" in refused(board("--offline", str(tmp_path / "bin")), 17)


def test_script_away_from_a_checkout_takes_no_package_by_name_alone(board: Board, tmp_path: Path) -> None:
    away = tmp_path / "away"
    shutil.copytree(DEPLOY, away)
    assert "neither a checkout" in refused(replace(board, script=away / SCRIPT.name)(), 17)
    assert board.changing_calls == []


def test_offline_installation_asks_no_index(board: Board) -> None:
    assert board("--offline", str(board.folder)).returncode == 0
    (call,) = [call for call in board.calls if " -m pip install" in call]
    assert f"--no-index --find-links {board.folder} gradsieve[edge]" in call


def test_other_user_than_root_is_refused_on_the_real_machine(board: Board, wheel: tuple[str, str]) -> None:
    command = ["/bin/sh", str(SCRIPT), *wheel]
    environment = {"PATH": f"{board.folder / 'bin'}:{os.environ['PATH']}", "CALLS": str(board.folder / "calls")}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment | GOOD | {"BOARD_USER": "1000"}, timeout=SECONDS
    )
    assert "sudo" in refused(done, 15)
    assert board.changing_calls == []


def test_failed_upgrade_leaves_the_installed_version_as_it_was(board: Board, wheel: tuple[str, str]) -> None:
    board(*wheel)
    before, tree = (board.root / "opt/gradsieve/current").readlink(), board.tree()
    Path(wheel[1]).write_bytes(b"another wheel")
    assert "pip could not install" in refused(board(*wheel, BOARD_PIP_FAILS="yes"), 18)
    assert (board.root / "opt/gradsieve/current").readlink() == before
    assert board.tree() == tree


def test_upgrade_switches_and_removes_the_earlier_version(board: Board, wheel: tuple[str, str]) -> None:
    board(*wheel)
    before = (board.root / "opt/gradsieve/current").resolve()
    Path(wheel[1]).write_bytes(b"another wheel")
    done = board(*wheel)
    assert done.returncode == 0, done.stderr
    current = (board.root / "opt/gradsieve/current").resolve()
    assert current != before
    assert current.is_dir()
    assert not before.exists()


def test_other_python_after_an_upgrade_of_the_system_makes_the_environment_anew(
    board: Board, wheel: tuple[str, str]
) -> None:
    board(*wheel)
    before = (board.root / "opt/gradsieve/current").readlink()
    assert board(*wheel, BOARD_PYTHON="3.13").returncode == 0
    assert (board.root / "opt/gradsieve/current").readlink() != before


def test_interrupted_installation_is_repeated(board: Board, wheel: tuple[str, str]) -> None:
    board(*wheel)
    (board.root / "opt/gradsieve/current/complete").unlink()
    assert "install " in board(*wheel).stdout
    assert (board.root / "opt/gradsieve/current/complete").exists()


def test_other_prefix_goes_into_the_unit(board: Board, wheel: tuple[str, str]) -> None:
    assert board(*wheel, "--prefix", "/srv/sieve/").returncode == 0
    assert "ExecStart=/srv/sieve/current/bin/gradsieve-edge run" in (board.root / INSTALLED_UNIT).read_text()
    assert (board.root / "srv/sieve/current/bin/python").exists()


def test_changed_unit_is_installed_anew(board: Board, wheel: tuple[str, str]) -> None:
    board(*wheel)
    (board.root / INSTALLED_UNIT).write_text("of an earlier release")
    assert board(*wheel).stdout == "install the service gradsieve-edge.service\n"
    assert (board.root / INSTALLED_UNIT).read_text() == UNIT.read_text()


def test_removal_keeps_settings_and_state(board: Board, wheel: tuple[str, str]) -> None:
    board(*wheel)
    (board.root / STATE / "update").write_text("not uploaded yet")
    done = board("--uninstall")
    assert done.returncode == 0, done.stderr
    assert set(board.tree()) == {SETTINGS, f"{STATE}/update"}
    assert not (board.root / "opt/gradsieve").exists()
    assert f"systemctl --root={board.root} --quiet disable gradsieve-edge.service" in board.calls
    assert "--purge" in done.stdout


def test_removal_of_a_shared_prefix_leaves_what_is_not_ours(board: Board, wheel: tuple[str, str]) -> None:
    other = board.root / "opt/venv-2/tool"
    other.parent.mkdir(parents=True)
    other.touch()
    board(*wheel, "--prefix", "/opt")
    assert board("--uninstall", "--prefix", "/opt").returncode == 0
    assert [path.name for path in (board.root / "opt").iterdir()] == ["venv-2"]
    assert other.exists()


@pytest.mark.parametrize(("arguments", "answer"), [((), "yes\n"), (("--yes",), "")])
def test_purge_deletes_settings_state_and_user_once_confirmed(
    board: Board, wheel: tuple[str, str], arguments: tuple[str, ...], answer: str
) -> None:
    board(*wheel)
    assert board("--uninstall", "--purge", *arguments, answer=answer).returncode == 0
    assert board.tree() == {}
    assert "userdel gradsieve-edge" in board.calls


@pytest.mark.parametrize("answer", ["", "\n", "no\n", "y\n"])
def test_purge_without_a_clear_yes_removes_nothing(board: Board, wheel: tuple[str, str], answer: str) -> None:
    board(*wheel)
    tree = board.tree()
    assert "--yes" in refused(board("--uninstall", "--purge", answer=answer), 19)
    assert board.tree() == tree


def test_removal_where_nothing_is_installed_says_so(board: Board) -> None:
    done = board("--uninstall")
    assert done.returncode == 0
    assert done.stdout == "nothing to change: no client is installed\n"


def test_exit_codes_of_the_help_are_those_of_the_script() -> None:
    text = SCRIPT.read_text()
    used = {int(code) for code in re.findall(r"refuse (\d+) ", text)}
    usage = text.partition("Exit codes:")[2].partition("EOF")[0]
    shown = {int(code) for code in re.findall(r"(?:^|  )\s*(\d+)  \w", usage, re.MULTILINE)}
    assert shown == used | {0}


def test_release_was_made_in_the_past() -> None:
    seconds, day = re.findall(r"^RELEASE(?:_SECONDS|_DAY)=(\S+)", SCRIPT.read_text(), re.MULTILINE)
    assert int(seconds) < time.time()
    assert time.strftime("%Y-%m-%d", time.gmtime(int(seconds))) == day
