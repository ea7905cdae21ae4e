"""What an emulation needs before it begins, made in a process that then ends: it loads torch, and nobody else has to.

The request comes as a JSON line on standard input; bundle, initial weights and the devices' data go into the run's
folder, and what they are is printed as another line.
"""

import subprocess
import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from coordinator.job import Job
from shared.errors import GradsieveError, RunError
from shared.fleet_brief import TorchModule

LONGEST_SECONDS = 600.0
DATA_FOLDER = "fleet-data"


class Request(BaseModel):
    """What to prepare: the job, how many devices, and where data and results are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: Job
    folder: Path
    clients: int | None = None
    data: Path | None = None
    test_share: float = 0.2


class Prepared(BaseModel):
    """What was prepared: the devices, how their data lies, and what an example's training takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    names: tuple[str, ...]
    kind: Literal["folders", "arrays"]
    example_flops: float
    module: TorchModule | None = None


class Preparation:
    """The process, started at once; `result` waits for it."""

    def __init__(self, request: Request) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "coordinator.emulation.preparation"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._request = request.model_dump_json().encode()

    def result(self) -> Prepared:
        """What was prepared; raises `RunError` with the process's own words where it could not."""
        try:
            answer, complaint = self._process.communicate(self._request, LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise RunError(f"bundle and data were not ready after {LONGEST_SECONDS:g} s: deal fewer examples") from None
        if self._process.returncode:
            lines = complaint.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise RunError(lines[-1])
        return Prepared.model_validate_json(answer)


def main() -> int:
    """Prepare what standard input asks for."""
    from coordinator.emulation.population import prepare  # noqa: PLC0415  loads torch, which whoever starts us must not

    try:
        request = Request.model_validate_json(sys.stdin.buffer.read())
        print(prepare(request).model_dump_json())
    except GradsieveError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
