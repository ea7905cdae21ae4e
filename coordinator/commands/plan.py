"""`gradsieve plan`."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from coordinator.job import load_job


def plan(
    file: Annotated[Path, typer.Argument(metavar="PLACEMENT.toml", help="a job, an accuracy, and the sites")],
    check: Annotated[
        bool, typer.Option("--check", help="emulate what is advised, and what was only worked out")
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="processes that train; default one a core")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print everything as JSON")] = False,
) -> None:
    """Advise which sites should have a cluster head, and how many local steps a round, for the least traffic."""
    from coordinator.placement.advice import advise, trial_of
    from coordinator.placement.pilot import Ground, Trial
    from coordinator.placement.sites import read_question
    from coordinator.report.quantity import bytes_text

    question = read_question(file)
    cores = len(os.sched_getaffinity(0))
    ground = Ground(load_job(question.job), question.boards, question.accuracy, question.data, workers or cores)
    console = Console(stderr=as_json)
    with console.status("") as status:

        def on_round(trial: Trial, server_round: int, accuracy: float) -> None:
            heads = f", {len(trial.clusters)} heads" if trial.clusters else ""
            status.update(f"emulating {trial.interval} steps a round{heads}: round {server_round}, {accuracy:.3f}")

        advice = advise(question.site, question.intervals, ground, on_round)
        chosen = advice.worth_checking(question.site) if check else []
        checked = [ground.play(trial_of(each, question.site), on_round) for each in chosen]
    if as_json:
        figures = {
            "advice": advice.best.to_json(),
            "forecasts": [each.to_json() for each in advice.forecasts],
            "slowdown": advice.slowdown,
            "pilots": [pilot.to_json() for pilot in advice.pilots],
            "checked": [
                {"forecast": forecast.to_json(), "emulated": pilot.to_json()}
                for forecast, pilot in zip(chosen, checked, strict=True)
            ],
        }
        print(json.dumps(figures, indent=2))
        return
    table = Table("heads at", "steps a round", "rounds", "bytes", "price", box=None, header_style="bold")
    for each in advice.forecasts[:8]:
        heads = ", ".join(each.heads) or "-"
        table.add_row(
            heads, str(each.interval), f"{each.rounds:.0f}", bytes_text(each.moved_bytes), f"{each.price:.3g}"
        )
    console.print(table)
    best, plain = advice.best, advice.without_heads
    where = f"heads at {', '.join(best.heads)}" if best.heads else "no heads"
    console.print(
        f"\n{where}, {best.interval} steps a round: {bytes_text(best.moved_bytes)} between sites and broker until "
        f"{question.accuracy:g}, against {bytes_text(plain.moved_bytes)} without heads",
        highlight=False,
    )
    for forecast, pilot in zip(chosen, checked, strict=True):
        took = "not reached" if pilot.rounds is None else f"{pilot.rounds} rounds"
        console.print(
            f"{', '.join(forecast.heads) or 'no heads'}, {forecast.interval} steps: emulated {took}, "
            f"{bytes_text(pilot.moved_bytes)}; forecast {forecast.rounds:.0f} rounds, "
            f"{bytes_text(forecast.moved_bytes)}",
            highlight=False,
        )
