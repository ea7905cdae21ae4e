"""`gradsieve report`."""

from pathlib import Path
from typing import Annotated

import typer

from coordinator.report.page import write_report
from coordinator.run_folder import RunFolder
from shared.errors import RunError


def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN_FOLDER", help="a run folder, such as runs/demo")],
) -> None:
    """Write report.html into a run folder from its journal and summary; it is one file and needs no network."""
    run = RunFolder(folder)
    if not run.journal.exists():
        raise RunError(f"{folder} holds no run: name the folder that was given as --out")
    write_report(run)
    print(run.report)
