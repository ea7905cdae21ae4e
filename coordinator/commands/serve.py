"""`gradsieve serve`."""

import logging
import time
from pathlib import Path
from typing import Annotated

import typer

from coordinator.commands.logs import service_logs
from coordinator.commands.options import BrokerOption, ConfigOption, read_settings
from coordinator.job import load_job
from coordinator.report.page import write_report
from coordinator.run_folder import RunFolder
from coordinator.settings import CoordinatorSettings
from shared.errors import DeadlineExceeded, FolderInUse, GradsieveError, RunError, SettingsError, TransportError

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0
RETRY_SECONDS = 30.0
PASSING = (DeadlineExceeded, FolderInUse, TransportError)
"""No broker, no devices, another process in the folder: all may change without anybody touching the job."""


def serve(
    jobs: Annotated[Path, typer.Option(help="folder that is watched for *.toml job files")] = Path("jobs"),
    out: Annotated[Path, typer.Option(help="folder of run folders")] = Path("runs"),
    broker: BrokerOption = None,
    config: ConfigOption = None,
    once: Annotated[bool, typer.Option("--once", help="end when no job is left")] = False,
) -> None:
    """Run every job file that appears in a folder, one after the other; unfinished runs are resumed first."""
    settings = read_settings(config, broker)
    service_logs()
    if not jobs.is_dir():
        raise SettingsError(f"{jobs}: no such folder; make it and put job files into it, or name another with --jobs")
    log.info("watching %s for jobs; broker %s", jobs, settings.broker.address)
    failed: dict[Path, int] = {}
    while True:
        waiting = [file for file in sorted(jobs.glob("*.toml")) if failed.get(file) != _age(file)]
        waiting = [file for file in waiting if not _finished(file, out)]
        for file in waiting:
            if not _attempt(file, out, settings, patient=not once):
                failed[file] = _age(file)
        if once and not waiting:
            break
        time.sleep(POLL_SECONDS)
    if failed:
        raise RunError(f"not finished: {', '.join(sorted(file.name for file in failed))}: the log says why")


def _attempt(file: Path, out: Path, settings: CoordinatorSettings, patient: bool) -> bool:
    """Serve one job; False when it must not be tried again as it is. What may pass by itself is waited for a while."""
    try:
        _serve_job(file, out, settings)
    except PASSING as error:
        if not patient:
            raise
        log.error("%s: %s; it is tried again in %.0f s", file.name, error, RETRY_SECONDS)
        time.sleep(RETRY_SECONDS)
    except GradsieveError as error:
        log.error("%s: %s; it is tried again when the file changes", file.name, error)
        return False
    return True


def _age(file: Path) -> int:
    """When the file was written last, in nanoseconds; 0 once it is gone."""
    return file.stat().st_mtime_ns if file.exists() else 0


def _finished(file: Path, out: Path) -> bool:
    return RunFolder(out / file.stem).summary.exists()


def _serve_job(file: Path, out: Path, settings: CoordinatorSettings) -> None:
    from coordinator.assembly import assembled_run
    from coordinator.summary import run_figures, score_text, write_json

    job, folder = load_job(file), RunFolder(out / file.stem)
    folder.begin(resume=folder.journal.exists())
    with assembled_run(job, folder, settings) as run:
        final = run.execute()
        run.strategy.save_model(folder.model)
        write_json(folder.summary, run_figures(run, final))
        run.finish()
    write_report(folder)
    log.info("%s: finished, %s; report %s", job.name, score_text(final), folder.report)
