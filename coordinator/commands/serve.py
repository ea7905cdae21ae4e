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
from shared.errors import GradsieveError, SettingsError

log = logging.getLogger(__name__)

POLL_SECONDS = 2.0


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
    failed: set[Path] = set()
    while True:
        waiting = [file for file in sorted(jobs.glob("*.toml")) if file not in failed and not _finished(file, out)]
        for file in waiting:
            try:
                _serve_job(file, out, settings)
            except GradsieveError as error:
                log.error("%s: %s; change or touch nothing and restart to try again", file.name, error)
                failed.add(file)
        if once and not waiting:
            return
        time.sleep(POLL_SECONDS)


def _finished(file: Path, out: Path) -> bool:
    return RunFolder(out / file.stem).summary.exists()


def _serve_job(file: Path, out: Path, settings: CoordinatorSettings) -> None:
    from coordinator.assembly import assembled_run
    from coordinator.summary import run_figures, write_json

    job, folder = load_job(file), RunFolder(out / file.stem)
    folder.begin(resume=folder.journal.exists())
    with assembled_run(job, folder, settings) as run:
        final = run.execute()
        run.strategy.save_model(folder.model)
        write_json(folder.summary, run_figures(run, final))
    write_report(folder)
    log.info("%s: finished with accuracy %.3f; report %s", job.name, final.get("accuracy", float("nan")), folder.report)
