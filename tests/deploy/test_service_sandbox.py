"""What the unit forbids, laid on a process by the same means of the kernel: agent and trainer work within it."""

import ctypes
import ctypes.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from shared.signing import SigningKey

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "gradsieve-edge.service"
SECONDS = 120.0

# Runs the rest of its command line under the rules on its standard input: allowed calls, all others give EPERM.
# Address families are those of the unit; memory is never writable and executable, as with MemoryDenyWriteExecute.
LAUNCHER = """
import ctypes, os, sys
ALLOW, EPERM, EQUAL, DENY_WRITE_EXECUTE = 0x7FFF0000, 0x00050001, 4, 65
names = sys.stdin.read().split()
library, libc = ctypes.CDLL("libseccomp.so.2"), ctypes.CDLL(None)
class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]
library.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(library.seccomp_init(EPERM))
for name in names:
    number = library.seccomp_syscall_resolve_name(name.encode())
    if name == "socket":
        for family in (1, 2, 10):
            rule = Compare(0, EQUAL, family, 0)
            assert library.seccomp_rule_add_array(context, ALLOW, number, 1, ctypes.byref(rule)) == 0
    elif number >= 0:
        assert library.seccomp_rule_add_array(context, ALLOW, number, 0, None) == 0
if libc.prctl(DENY_WRITE_EXECUTE, 1, 0, 0, 0) != 0:
    sys.exit(77)
assert library.seccomp_load(context) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def words(key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)


@cache
def calls_of(group: str) -> frozenset[str]:
    """The system calls of one of systemd's groups, those of the groups within it too."""
    command = ["systemd-analyze", "syscall-filter", "--no-pager", group]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS)
    entries = [
        line.strip() for line in done.stdout.splitlines()[1:] if line.strip() and not line.strip().startswith("#")
    ]
    return frozenset().union(*(calls_of(entry) if entry.startswith("@") else {entry} for entry in entries))


def allowed_calls() -> frozenset[str]:
    """What `SystemCallFilter=` leaves: the first line allows, a line that begins with ~ takes away."""
    allowed = calls_of("@default")
    for line in words("SystemCallFilter"):
        groups = frozenset().union(*(calls_of(name) for name in line.removeprefix("~").split()))
        allowed = allowed - (groups - calls_of("@default")) if line.startswith("~") else allowed | groups
    return allowed


pytestmark = [
    pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="system calls of 64-bit machines"),
    pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"),
    pytest.mark.skipif(ctypes.util.find_library("seccomp") is None, reason="libseccomp is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to load a filter without NoNewPrivileges"),
]


def confined(*command: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [sys.executable, "-c", LAUNCHER, *command],
        input="\n".join(sorted(allowed_calls())),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    if done.returncode == 77:
        pytest.skip("this kernel cannot forbid memory that is writable and executable: Linux 6.3 can")
    return done


def test_filter_really_confines() -> None:
    code = "import os, socket\n"
    for attempt in ("os.nice(1)", "os.sched_setaffinity(0, {0})", "socket.socket(socket.AF_NETLINK)", "os.chroot('/')"):
        code += f"try:\n    {attempt}\n    print('allowed')\nexcept PermissionError:\n    pass\n"
    code += (
        "import mmap\ntry:\n    mmap.mmap(-1, 4096, prot=7)\n    print('allowed')\nexcept PermissionError:\n    pass\n"
    )
    done = confined("-c", code)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_training_step_comes_out_right_within_the_sandbox() -> None:
    done = confined("-m", "edge_client.main", "doctor", "--json")
    marks = {found["check"]: found["mark"] for found in json.loads(done.stdout)["findings"]}
    assert marks["training"] == "ok", "it starts a process as the agent does, and loads numpy and onnxruntime there"
    assert marks["memory"] in ("ok", "warn"), "the kernel's memory report can be read"


def test_agent_starts_and_looks_for_its_broker_within_the_sandbox(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    arguments = ["run", "--name", "b", "--broker", "localhost:1", "--connect-seconds", "2"]
    arguments += ["--data", str(tmp_path / "data"), "--state", str(tmp_path / "state")]
    done = confined("-m", "edge_client.main", *arguments, "--trust", SigningKey(bytes(32)).verify_key.hex)
    assert done.returncode == 69, done.stderr
    assert "localhost:1 refused the connection" in done.stderr, "name service, sockets and threads work"
