"""The process that prepares an emulation: to be started before all else, for loading torch takes it longest.

Nothing is imported here that whoever starts it would have to wait for.
"""

import os
import subprocess
import sys
from types import TracebackType
from typing import Self

LONGEST_SECONDS = 600.0


class Preparer:
    """Begins with its block, and waits for a request; what it has not done at the block's end is not done."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "coordinator.emulation.preparation"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def answer(self, request: bytes) -> tuple[bytes, str]:
        """What it prints to a request, and what it complained of; that is empty where all went well.

        Raises `TimeoutError` where it takes too long.
        """
        try:
            printed, said = self._process.communicate(request, LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"bundle and data were not ready after {LONGEST_SECONDS:g} s") from None
        if not self._process.returncode:
            return printed, ""
        lines = said.decode(errors="replace").strip().splitlines()
        return printed, lines[-1] if lines else "the preparation of the emulation ended without a word"
