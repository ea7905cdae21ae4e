"""`gradsieve emulate`."""

import json
import os
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from coordinator.commands.logs import quiet_logs
from coordinator.commands.options import read_settings
from coordinator.emulation.preparer import Preparer
from coordinator.job import load_job
from coordinator.run_folder import RunFolder


def emulate(
    job_file: Annotated[Path, typer.Argument(metavar="JOB.toml", help="what to train, as for gradsieve run")],
    clients: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="devices; default all of a task's own")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(metavar="NAME[=SHARE]", help="kind of device, such as pi-4=0.7; may be repeated")
    ] = None,
    devices: Annotated[Path | None, typer.Option(metavar="FILE.toml", help="your own kinds of devices")] = None,
    data: Annotated[Path | None, typer.Option(help="folder with x.npy and y.npy to deal to the devices")] = None,
    test_share: Annotated[float, typer.Option(min=0, max=0.9, help="what a device holds back to test on")] = 0.2,
    workers: Annotated[int | None, typer.Option(min=1, help="processes that train; default one a core")] = None,
    engine: Annotated[Literal["onnx", "torch"], typer.Option(help="what they train with")] = "onnx",
    start_hour: Annotated[float, typer.Option(min=0, max=24, help="hour of the day at which it begins")] = 8.0,
    broker: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="a real MQTT broker, in real time"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="run folder; default runs/<job name>-emulated")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as JSON at the end")] = False,
) -> None:
    """Train one job with a fleet that is emulated on this machine, by the code of the boards and on a virtual clock."""
    began, job = time.monotonic(), load_job(job_file)
    preparer = Preparer()  # loads its libraries while this process loads its own
    from coordinator.emulation.emulation import Setup, emulated_run, live_run
    from coordinator.emulation.outcome import Outcome
    from coordinator.emulation.profiles import SHIPPED, chosen, read_profiles
    from coordinator.live_table import LiveTable
    from coordinator.report.page import write_report
    from coordinator.summary import score_text, write_json

    known = read_profiles(devices or SHIPPED)
    wanted = device or (list(known) if devices else ["ideal"])
    setup = Setup(
        job=job,
        clients=clients,
        data=data,
        test_share=test_share,
        engine=engine,
        profiles=chosen(wanted, known),
        workers=workers or len(os.sched_getaffinity(0)),
        start_hour=start_hour,
    )
    folder = RunFolder(out or Path("runs") / f"{job.name}-emulated")
    folder.begin(resume=False)
    quiet_logs(folder.path)
    console = Console(stderr=as_json)
    table = LiveTable(f"gradsieve emulate: {job.name}", job.rounds, console=console)
    real = None if broker is None else read_settings(None, broker).broker
    begun = (
        emulated_run(setup, folder, table.progress, table.closed, preparer)
        if real is None
        else live_run(setup, folder, real, table.progress, table.closed, preparer)
    )
    with begun as emulated, table.shown():
        table.dense_update_bytes = 4 * emulated.run.strategy.layout.size
        final = emulated.run.execute()
        emulated.run.strategy.save_model(folder.model)
        outcome = Outcome.of(emulated, final, time.monotonic() - began)
        write_json(folder.summary, outcome.figures)
        emulated.run.finish()
    write_report(folder)
    if as_json:
        print(json.dumps(outcome.figures, indent=2))
        return
    console.print(f"{score_text(final)}   model {folder.model}   report {folder.report}", highlight=False)
    if sentence := outcome.sentence():
        console.print(f"{sentence}; here it took {time.monotonic() - began:.0f} s", highlight=False)
