"""The root folder of an emulated board: an arm64 Debian with the wheels of a device, made once and kept in a cache."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from shared.errors import RunError
from shared.folder_lock import folder_lock

CHECKOUT = Path(__file__).parents[2]
SUITE, PYTHON, GLIBC_MINOR = "bookworm", "3.11", 36
RECIPE = 1
"""To be raised when this file makes another root of the same packages."""

QEMU = "qemu-aarch64-static"
PACKAGES = f"usr/local/lib/python{PYTHON}/dist-packages"
INTERPRETER = f"/usr/local/bin/python{PYTHON}"
LOG_TAIL_BYTES = 2000

# A program that Python starts by `sys.executable` is arm64, which the kernel cannot run. This one it can: the script's
# interpreter is qemu, which runs the shell of the root, which starts qemu with Python, under the script's own name.
WRAPPER = f'#!/usr/bin/{QEMU} /bin/sh\nexec /usr/bin/{QEMU} -0 "$0" /usr/bin/python{PYTHON} "$@"\n'

CALL_SECONDS = 1800.0
"""For the longest program that makes a root, which downloads a system."""

# What onnxruntime reads of a Raspberry Pi 4. The host's own /sys and /proc/cpuinfo make its aarch64 build crash.
CORES = 4
CORE = """\
processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""

Say = Callable[[str], None]


def why_not(cache: Path) -> str | None:
    """Why no board can be emulated here, with the remedy; None where it can."""
    if sys.platform != "linux" or platform.machine() == "aarch64":
        return f"this is {sys.platform} on {platform.machine()}: emulation needs Linux on another CPU than aarch64"
    if os.geteuid() != 0:
        return "chroot and mount need root privileges: call it as root"
    needed = {QEMU: "qemu-user-static", "unshare": "util-linux", "mount": "mount", "chroot": "coreutils"}
    if not root_folder(cache).is_dir():
        needed |= {"debootstrap": "debootstrap", "dpkg-deb": "dpkg", "apt-get": "apt"}
    for program, package in needed.items():
        if shutil.which(program) is None:
            return f"{program} is not installed: apt install {package}"
    trial = ["unshare", "--mount", "true"]
    if subprocess.run(trial, check=False, capture_output=True, timeout=CALL_SECONDS).returncode:
        return "the kernel refuses a mount namespace (unshare --mount): call it outside of a restricted container"
    return None


def root_folder(cache: Path) -> Path:
    """Where the root of these very packages is kept."""
    constraints = (CHECKOUT / "constraints.txt").read_text(encoding="utf-8")
    recipe = "\n".join([str(RECIPE), SUITE, *_requirements(), constraints])
    return cache / f"{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def made_root(cache: Path, say: Say) -> Path:
    """The root folder, made if it is not in `cache`; raises `RunError` with what the failing program said."""
    root = root_folder(cache)
    if root.is_dir():
        say(f"root {root} is at hand")
        return root
    with folder_lock(cache), tempfile.TemporaryDirectory(dir=cache) as folder:
        made, wheels = Path(folder) / "root", Path(folder) / "wheels"
        with (Path(folder) / "log").open("w+b") as log:
            say(f"debootstrap of {SUITE} for arm64 with python{PYTHON}")
            _debootstrap(made, log)
            say("unpacking its packages")
            _unpack_packages(made, log)
            say(f"downloading wheels for {', '.join(_requirements())}")
            _download(wheels, log)
        say("unpacking the wheels")
        _unpack_wheels(wheels, made)
        _furnish(made)
        made.rename(root)
    say(f"root {root} is made")
    return root


def _requirements() -> list[str]:
    """What the edge extra asks for, and what the tests that run on the board do."""
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    testing = [wanted for wanted in extras["dev"] if wanted.startswith(("pytest", "hypothesis"))]
    return [*project["dependencies"], *extras["edge"], *testing]


def _debootstrap(root: Path, log: IO[bytes]) -> None:
    """Fetch the packages, from the mirror that this machine's apt uses where that has the suite."""
    command = ["debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", "--include=python3", SUITE, str(root)]
    _called([*command, *_mirror()], log)


def _mirror() -> list[str]:
    wanted = ["Created-By: Packages", f"Codename: {SUITE}", "Origin: Debian", "Component: main"]
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted]
    known = subprocess.run(command, check=False, capture_output=True, text=True, timeout=CALL_SECONDS).stdout.split()
    return known[:1]


def _unpack_packages(root: Path, log: IO[bytes]) -> None:
    """The second stage would run them; unpacked they serve us. Links such as `bin` to `usr/bin` stay."""
    archives = root / "var" / "cache" / "apt" / "archives"
    for package in sorted(archives.glob("*.deb")):
        with tempfile.NamedTemporaryFile() as tree:
            _called(["dpkg-deb", "--fsys-tarfile", str(package)], log, tree)
            _called(
                ["tar", "--extract", "--keep-directory-symlink", "--directory", str(root), "--file", tree.name], log
            )
    shutil.rmtree(archives)
    shutil.rmtree(root / "debootstrap")


def _download(wheels: Path, log: IO[bytes]) -> None:
    """Fetch the wheels that pip would choose on the board, in the versions that were tested together."""
    tags = [f"manylinux_2_{minor}_aarch64" for minor in range(GLIBC_MINOR, 16, -1)] + ["manylinux2014_aarch64"]
    abis = ["cp" + PYTHON.replace(".", ""), "abi3", "none"]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON]
    command += [argument for abi in abis for argument in ("--abi", abi)]
    command += [argument for tag in tags for argument in ("--platform", tag)]
    _called([*command, "-c", str(CHECKOUT / "constraints.txt"), "--dest", str(wheels), *_requirements()], log)


def _unpack_wheels(wheels: Path, root: Path) -> None:
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root / PACKAGES)


def _furnish(root: Path) -> None:
    """What `Board` mounts on, the interpreter that can be started, and what the CPU says of itself."""
    for name in ("proc", "dev", "mnt", "sys"):
        place = root / name
        if place.is_symlink():  # as debootstrap makes it inside a container
            place.unlink()
        place.mkdir(exist_ok=True)
    (root / "usr" / "bin" / QEMU).touch()
    (root / "cpuinfo").write_text("".join(CORE.format(number=number) for number in range(CORES)))
    cores = root / "sys" / "devices" / "system" / "cpu"
    cores.mkdir(parents=True)
    for name in ("possible", "present"):
        (cores / name).write_text(f"0-{CORES - 1}\n")
    interpreter = root / INTERPRETER[1:]
    interpreter.parent.mkdir(parents=True, exist_ok=True)
    interpreter.write_text(WRAPPER)
    interpreter.chmod(0o755)


def _called(command: Sequence[str], log: IO[bytes], out: IO[bytes] | None = None) -> None:
    """Run a program to its end; raises `RunError` with the last of its output where it fails or takes too long."""
    try:
        ended = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, stdout=out or log, stderr=log, timeout=CALL_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise RunError(
            f"{command[0]} did not end within {CALL_SECONDS:g} s: see whether its downloads get on"
        ) from None
    if ended.returncode:
        log.seek(0)
        said = log.read()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
        raise RunError(f"{command[0]} ended with {ended.returncode}: {said or 'it said nothing'}")
