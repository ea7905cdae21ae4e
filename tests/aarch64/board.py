"""An emulated board: programs run in a root folder under qemu, with this checkout's packages installed."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from shared.errors import DeadlineExceeded, RunError
from tests.aarch64.board_root import CHECKOUT, INTERPRETER, QEMU

RASPBERRY_PI_4 = "cortex-a72"
PLACE = "/mnt"
"""Where the board sees its work folder."""

COMMAND = f"{PLACE}/bin/gradsieve-edge"
# What pip writes for the console script of the wheel.
SCRIPT = f"#!{INTERPRETER}\nimport sys\nfrom edge_client.main import main\nsys.exit(main())\n"

PACKAGES = ("shared", "edge_client")
TESTS = ("golden", "shared", "aarch64", "edge_client/test_pending.py")
ERROR_TAIL_BYTES = 3000

# In a mount namespace of its own, so that nothing stays mounted however the program ends.
ENTER = """\
set -e
root=$1 work=$2 qemu=$3
shift 3
mount --bind /proc "$root/proc"
mount --bind "$root/cpuinfo" "$root/proc/cpuinfo"
mount --bind /dev "$root/dev"
mount --bind "$work" "$root/mnt"
mount --bind "$qemu" "$root/usr/bin/qemu-aarch64-static"
exec chroot "$root" "$@"
"""


class Board:
    """Runs arm64 programs of `root`; `work` is an empty folder that it fills, and that they see as `/mnt`.

    `cpu` is one that qemu knows.
    """

    def __init__(self, root: Path, work: Path, cpu: str = RASPBERRY_PI_4) -> None:
        self.work = work
        self.root, self._cpu = root, cpu
        for package in PACKAGES:
            _copy(CHECKOUT / package, work / package)
        for test in TESTS:
            _copy(CHECKOUT / "tests" / test, work / "tests" / test)
        shutil.copy(CHECKOUT / "pyproject.toml", work)
        shutil.copy(CHECKOUT / "tests" / "aarch64" / "board_conftest.py", work / "tests" / "conftest.py")
        command = work / "bin" / Path(COMMAND).name
        command.parent.mkdir()
        command.write_text(SCRIPT)
        command.chmod(0o755)

    def python(self, *arguments: str, deadline_seconds: float) -> str:
        """What the board's Python prints; raises `RunError` where it fails, `DeadlineExceeded` where it is slow."""
        command = self._command(INTERPRETER, *arguments)
        try:
            ended = subprocess.run(
                command, check=False, capture_output=True, env=self._environment(), timeout=deadline_seconds
            )
        except subprocess.TimeoutExpired:
            raise DeadlineExceeded(f"{' '.join(arguments)}: not ready after {deadline_seconds:g} s") from None
        if ended.returncode:
            said = (ended.stdout + ended.stderr)[-ERROR_TAIL_BYTES:].decode(errors="replace")
            raise RunError(f"{' '.join(arguments)} ended with {ended.returncode} on the board: {said}")
        return ended.stdout.decode()

    def start(self, *command: str, log: IO[bytes]) -> "subprocess.Popen[bytes]":
        """A program begun on the board, which prints to `log`; its process id is that of its emulator."""
        return subprocess.Popen(
            self._command(*command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=self._environment(),
            start_new_session=True,
        )

    def _command(self, *command: str) -> list[str]:
        qemu = shutil.which(QEMU)
        if qemu is None:
            raise RunError(f"{QEMU} is not installed: apt install qemu-user-static")
        places = [str(self.root), str(self.work), os.path.realpath(qemu)]
        namespace = ["unshare", "--mount", "--propagation", "private"]
        return [*namespace, "sh", "-c", ENTER, "enter", *places, *command]

    def _environment(self) -> Mapping[str, str]:
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": PLACE,
            "TMPDIR": PLACE,
            "PYTHONPATH": PLACE,
            "QEMU_CPU": self._cpu,
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": f"{PLACE}/.hypothesis",
        }


def _copy(source: Path, target: Path) -> None:
    """A file, or a folder as a wheel has it: without what Python compiled on this machine."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
