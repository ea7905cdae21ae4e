"""Processes that must not outlive us, even when we are killed: a shell waits for our end of a pipe to close."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

SCRIPT = 'read -r _; folder=$1; shift; kill "$@"; [ -z "$folder" ] || rm -rf "$folder"'


def end_with_us(pids: Sequence[int], folder: Path | None = None) -> subprocess.Popen[bytes]:
    """A shell that ends `pids`, and removes `folder`, when its standard input closes, however we die.

    Whoever ends the processes itself kills the shell first, by its own id: their numbers may be given anew.
    """
    return subprocess.Popen(  # noqa: S603  a fixed program with numbers and our own folder
        ["/bin/sh", "-c", SCRIPT, "watchdog", str(folder or ""), *map(str, pids)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
