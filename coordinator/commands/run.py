"""`gradsieve run`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from coordinator.commands.logs import quiet_logs
from coordinator.commands.options import BrokerOption, ConfigOption, read_settings
from coordinator.job import load_job
from coordinator.report.page import write_report
from coordinator.run_folder import RunFolder


def run(
    job_file: Annotated[Path, typer.Argument(metavar="JOB.toml", help="what to train")],
    out: Annotated[Path | None, typer.Option(help="run folder; default runs/<job name>")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue the run in the folder")] = False,
    broker: BrokerOption = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON at the end")] = False,
) -> None:
    """Train one job with the devices on a broker, to its end; a killed run continues with --resume."""
    from coordinator.assembly import assembled_run
    from coordinator.live_table import LiveTable
    from coordinator.summary import FleetTraffic, peak_rss_mb, run_figures, score_text, write_json

    job = load_job(job_file)
    folder = RunFolder(out or Path("runs") / job.name)
    folder.begin(resume)
    settings = read_settings(config, broker)
    quiet_logs(folder.path)
    console = Console(stderr=as_json)
    table = LiveTable(f"gradsieve run: {job.name}", job.rounds, console=console)
    with assembled_run(job, folder, settings, table.progress, table.closed) as active, table.shown():
        table.dense_update_bytes = 4 * active.strategy.layout.size
        final = active.execute()
        active.strategy.save_model(folder.model)
        devices = active.devices()
        traffic = FleetTraffic.of(devices)
        figures = run_figures(active, final) | {
            "clients": len(devices),
            "uplink_bytes": traffic.uplink_bytes,
            "downlink_bytes": traffic.downlink_bytes,
            "client_peak_rss_mb_max": round(peak_rss_mb(devices), 1),
        }
        write_json(folder.summary, figures)
        active.finish()
    write_report(folder)
    if as_json:
        print(json.dumps(figures, indent=2))
    else:
        console.print(f"{score_text(final)}   model {folder.model}   report {folder.report}")
