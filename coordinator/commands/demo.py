"""`gradsieve demo`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from coordinator.commands.logs import quiet_logs
from coordinator.report.page import write_report


def demo(
    out: Annotated[Path, typer.Option(help="folder for everything the demo writes; emptied first")] = Path("runs/demo"),
    rounds: Annotated[int | None, typer.Option(min=1, help="rounds to train")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="of weights, sampling and data order")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON at the end")] = False,
) -> None:
    """Ten watches learn together on this machine: broker, coordinator and ten client processes, on real data."""
    from coordinator.demo import Demo, demo_job

    quiet_logs(out)
    console = Console(stderr=as_json)
    demonstration = Demo(out, demo_job(rounds, seed), console)
    figures = demonstration.run()
    write_report(demonstration.folder)
    if as_json:
        print(json.dumps(figures, indent=2))
        return
    console.print(
        f"\naccuracy {figures['accuracy']:.3f} together, {figures['accuracy_alone_mean']:.3f} alone, "
        f"{figures['accuracy_pooled']:.3f} with all data in one place\n"
        f"uplink {_mega(figures['uplink_bytes'])}, {figures['uplink_ratio']:.0f} times less than dense; "
        f"downlink {_mega(figures['downlink_bytes'])}, {figures['downlink_ratio']:.0f} times less\n"
        f"largest client {figures['client_peak_rss_mb_max']} MB, {figures['wall_seconds']} s in all\n"
        f"pictures: {demonstration.folder.report}   figures: {demonstration.folder.summary}",
        highlight=False,
    )


def _mega(count: object) -> str:
    return f"{float(str(count)) / 1e6:.2f} MB"
