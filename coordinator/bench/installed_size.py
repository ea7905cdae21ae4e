"""How much disk an installation takes, measured by making one: pip puts it into a folder of its own."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

INSTALL_SECONDS = 900.0


def installed_mb(requirements: Sequence[str], folder: Path) -> float | None:
    """Megabytes of `pip install --target` with these requirements, compiled files included; None where it fails."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--target",
        str(folder),
    ]
    try:
        subprocess.run([*command, *requirements], check=True, timeout=INSTALL_SECONDS)  # noqa: S603  our own words
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return round(sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6, 1)
