"""What an emulation needs before it begins, made in a process that then ends: where it loads torch, nobody else has to.

The request comes as a JSON line on standard input; bundle, initial weights and the devices' data go into the run's
folder, and what they are is printed as another line.
"""

import sys
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from coordinator.emulation.preparer import Preparer
from coordinator.job import Job
from shared.errors import GradsieveError, RunError
from shared.fleet_brief import TorchModule

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


def prepared_by(preparer: Preparer, request: Request) -> Prepared:
    """What a process has prepared; raises `RunError` with its own words where it could not."""
    try:
        answer, complaint = preparer.answer(request.model_dump_json().encode())
    except TimeoutError as error:
        raise RunError(f"{error}: deal fewer examples") from None
    if complaint:
        raise RunError(complaint)
    return Prepared.model_validate_json(answer)


def main() -> int:
    """Prepare what standard input asks for."""
    from coordinator.emulation.population import prepare  # noqa: PLC0415  loads what whoever starts us need not

    asked = sys.stdin.buffer.read()
    if not asked:
        return 0  # whoever started this has ended
    try:
        request = Request.model_validate_json(asked)
        print(prepare(request).model_dump_json())
    except GradsieveError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
