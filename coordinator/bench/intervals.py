"""`python -m coordinator.bench.intervals`: what the number of local steps between two averagings is worth.

Two questions. Does training with N clients take N times fewer steps, as parallel restarted SGD promises (Yu, Yang, Zhu,
AAAI 2019): plain SGD on small batches of digits dealt alike, dense both ways, the rate grown with the root of N as
there, or with N; steps until the test accuracy is reached. And which interval reaches an accuracy in the least time and
traffic: an emulated fleet with uneven clients on two kinds of links, sieved both ways.
"""

import argparse
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean

import torch

from coordinator.bench.cell import Cell
from coordinator.bench.federation import Federation
from coordinator.bench.load import load_before
from coordinator.bench.markdown import claims_table, rows_table
from coordinator.bench.recipe import Recipe
from coordinator.bench.result import Claim, Row, write_result
from coordinator.emulation.emulation import Setup, emulated_run
from coordinator.emulation.profiles import read_profiles
from coordinator.job import Fleet, Job, Split, Work
from coordinator.run_folder import RunFolder
from coordinator.tasks.digits import DIGITS

CLIENTS = (1, 2, 4, 8, 16)
TARGET, BATCH, RATE = 0.9, 4, 0.002
MOST_STEPS = 6_000
FLEET, FLEET_TARGET = 20, 0.85
INTERVALS: dict[str, Mapping[str, object]] = {
    "1 step": {"steps": 1},
    "5 steps": {"steps": 5},
    "20 steps": {"steps": 20},
    "80 steps": {"steps": 80},
    "80 to 10 steps": {"interval": "schedule", "steps": 80, "final_steps": 10},
    "10 to 80 steps": {"interval": "schedule", "steps": 10, "final_steps": 80},
    "adaptive": {"interval": "adaptive", "steps": 20, "most_steps": 200},
}
ROUNDS = {"1 step": 400, "5 steps": 160}
OTHER_ROUNDS = 50
LINKS = {"pi-4": 2.0, "nb-iot": 100.0}
"""What a round's traffic takes on each link, in steps of this model, as an adaptive job is told."""


def steps_to_target(clients: int, interval: int, power: float, seed: int) -> int | None:
    """Steps of each client until the target; None where the most steps do not suffice."""
    rate = RATE * clients**power
    rounds = MOST_STEPS // interval
    recipe = Recipe(
        "dense", rounds=rounds, steps=interval, batch_size=BATCH, learning_rate=rate, final_learning_rate=rate,
        momentum=0.0,
    )  # fmt: skip
    train, test = DIGITS.load()
    federation = Federation(Cell("digits", "iid", recipe, seed, clients), DIGITS, train, test)
    every = max(1, 20 // interval)
    for done in range(1, rounds + 1):
        federation.play_round()
        if done % every == 0 and federation.accuracy() >= TARGET:
            return done * interval
    return None


def speed_up(intervals: Sequence[int], clients: Sequence[int], seeds: Sequence[int]) -> list[Row]:
    """A row for each number of clients: mean steps over the seeds, and how many times fewer than one client's."""
    rows: list[Row] = []
    for power, scaling in ((0.5, "root of clients"), (1.0, "clients")):
        for interval in intervals:
            alone = 0.0
            for count in clients:
                found = [steps_to_target(count, interval, power, seed) for seed in seeds]
                reached = [steps for steps in found if steps is not None]
                steps = mean(reached) if len(reached) == len(found) else None
                alone = alone or (steps or 0.0)
                row = {
                    "study": "speed-up", "rate_grows_with": scaling, "interval": interval, "clients": count,
                    "steps": steps, "speed_up": round(alone / steps, 2) if steps and alone else None,
                }  # fmt: skip
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def fleet_row(name: str, link: str, seed: int) -> Row:
    """Virtual seconds and bytes until the devices' mean accuracy is reached, and the drift that was seen."""
    job = Job(
        name="intervals",
        task="digits",
        rounds=ROUNDS.get(name, OTHER_ROUNDS),
        seed=seed,
        work=Work.model_validate({"learning_rate": 0.02, "round_cost_steps": LINKS[link], **INTERVALS[name]}),
        split=Split(kind="dirichlet", alpha=0.3),
        fleet=Fleet(round_seconds=3600),
    )
    profile = read_profiles()[link].model_copy(update={"mean_hours_online": None})
    with tempfile.TemporaryDirectory(prefix="gradsieve-intervals-") as path:
        folder = RunFolder(Path(path))
        folder.begin(resume=False)
        with emulated_run(Setup(job, FLEET, profiles=(profile,)), folder) as emulated:
            run, uplink_bytes = emulated.run, 0.0
            begun = emulated.transport.now if emulated.transport else 0.0
            for server_round in range(1, job.rounds + 1):
                run.play_round(server_round)
                figures = run.journal.round(run.id, server_round).figures
                uplink_bytes += figures["uplink_bytes"]
                if figures.get("base_accuracy", 0.0) >= FLEET_TARGET:
                    break
            now = emulated.transport.now if emulated.transport else 0.0
            reached = figures.get("base_accuracy", 0.0) >= FLEET_TARGET
            drift = run.strategy.server.interval.drift
            return {
                "study": "fleet", "link": link, "interval": name, "seed": seed, "reached": reached,
                "rounds": server_round, "seconds": round(now - begun, 1), "uplink_kb": round(uplink_bytes / 1e3, 1),
                "accuracy": round(figures.get("base_accuracy", 0.0), 3),
                "last_steps": run.strategy.server.interval.at(server_round),
                "drift": round(drift, 2) if drift >= 0 else None,
            }  # fmt: skip


def claims_of(rows: Sequence[Row]) -> list[Claim]:
    """The speed-up of the most clients against the ideal, and adaptive against the best of the fixed intervals."""
    claims = []
    most = max((int(str(r["clients"])) for r in rows if r["study"] == "speed-up"), default=0)
    best = [float(str(r["speed_up"])) for r in rows if r.get("clients") == most and r.get("speed_up") is not None]
    if best:
        claims.append(Claim(f"speed-up of {most} clients / {most}", round(max(best) / most, 3), 0.5, 0.8, "higher"))
    for link in LINKS:
        seconds = _mean_seconds(rows, link)
        fixed = [value for name, value in seconds.items() if "interval" not in INTERVALS[name]]
        if fixed and "adaptive" in seconds:
            ratio = round(seconds["adaptive"] / min(fixed), 2)
            claims.append(Claim(f"adaptive / best fixed interval, seconds on {link}", ratio, 1.5, 1.0, "lower"))
    return claims


def _mean_seconds(rows: Sequence[Row], link: str) -> dict[str, float]:
    """Virtual seconds to the target by interval, the mean over the seeds, where all of them reached it."""
    here = [row for row in rows if row.get("link") == link]
    names = dict.fromkeys(str(row["interval"]) for row in here if row["reached"])
    of_name = {name: [row for row in here if row["interval"] == name] for name in names}
    return {
        name: mean(float(str(row["seconds"])) for row in own)
        for name, own in of_name.items()
        if all(row["reached"] for row in own)
    }


def table_of(rows: Sequence[Row], command: str, load: str) -> str:
    """The rows and claims as Markdown."""
    speed = [row for row in rows if row["study"] == "speed-up"]
    fleet = [row for row in rows if row["study"] == "fleet"]
    lines = [
        "# Local steps between two averagings",
        "",
        f"Made by `{command}`; all figures and versions in [intervals.json](intervals.json). {load}",
        "",
        f"Steps of each client until {TARGET:.0%} of the test digits are right: plain SGD, batches of {BATCH}, dealt",
        "alike, dense both ways.",
        "",
        *rows_table(speed, ("rate_grows_with", "interval", "clients", "steps", "speed_up")),
        "",
        f"Virtual seconds and uplink until {FLEET} devices, of uneven kinds of digits (Dirichlet 0.3), reach a mean",
        f"accuracy of {FLEET_TARGET:.0%}; default sieve both ways.",
        "",
        *rows_table(fleet, ("link", "interval", "seed", "reached", "rounds", "seconds", "uplink_kb", "accuracy",
                            "last_steps", "drift")),
        "",
        *claims_table(claims_of(rows)),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure both studies, print a line for each run, and write the result."""
    parser = argparse.ArgumentParser(prog="scripts/bench intervals", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, fewer clients and intervals")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/intervals.json"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    load, seeds = load_before(), [1] if chosen.quick else [1, 2, 3]
    rows = speed_up([10] if chosen.quick else [2, 10, 50], (1, 4, 16) if chosen.quick else CLIENTS, seeds)
    names = ["5 steps", "20 steps", "80 steps", "adaptive"] if chosen.quick else list(INTERVALS)
    for link in LINKS:
        for name in names:
            for seed in seeds[:2]:
                rows.append(fleet_row(name, link, seed))
                print(json.dumps(rows[-1]), flush=True)
    command = f"scripts/bench intervals{' --quick' if chosen.quick else ''}"
    write_result(chosen.out, "intervals", command, seeds, rows, claims_of(rows), {"load": load})
    chosen.out.with_suffix(".md").write_text(table_of(rows, command, load), encoding="utf-8")


if __name__ == "__main__":
    main()
