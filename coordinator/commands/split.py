"""`gradsieve split`."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from coordinator.job import load_job


def split(
    job_file: Annotated[Path, typer.Argument(metavar="JOB.toml", help="a job with a [split]")],
    clients: Annotated[int, typer.Option(min=1, max=100_000, help="devices to deal to")] = 10,
    data: Annotated[Path | None, typer.Option(help="folder with x.npy and y.npy, in place of the task's own")] = None,
    out: Annotated[Path | None, typer.Option(help="picture to write; default <job name>-split.svg")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as JSON")] = False,
) -> None:
    """Show how emulated devices would share a data set: who has how much of which class."""
    from coordinator.emulation.population import Dealt, population_of
    from coordinator.emulation.split_picture import SplitFigures, split_svg
    from shared.errors import SettingsError

    job = load_job(job_file)
    population = population_of(job, clients, data)
    if not isinstance(population, Dealt):
        raise SettingsError(f"task {job.task} has clients of its own: it is not dealt, so there is nothing to show")
    if population.examples.y.dtype.kind != "i":
        raise SettingsError(f"the labels of {job.task} are no classes: there are no mixtures of them to show")
    figures = SplitFigures.of(population.examples.y, population.parts)
    picture = out or Path(f"{job.name}-split.svg")
    how = job.split
    options = {"dirichlet": f" {how.alpha:g}", "shards": f" {how.shards}", "quantity": f" {how.sigma:g}"}
    picture.write_text(split_svg(figures, f"{job.task}, {how.kind}{options.get(how.kind, '')}"), encoding="utf-8")
    if as_json:
        print(json.dumps(figures.to_json() | {"picture": str(picture)}, indent=2))
        return
    facts = figures.to_json()
    Console().print(
        f"{facts['clients']:,} devices, {facts['examples']:,} examples: {facts['least']:,} at least, "
        f"{facts['median']:,g} in the middle, {facts['most']:,} at most\n"
        f"{facts['classes_a_client']:g} of {facts['classes']} classes each; distance from the whole "
        f"{facts['distance']:.2f}\npicture {picture}",
        highlight=False,
    )
