"""`python -m tests.aarch64.fingerprints`: digests of all that the codecs make of many updates, as one line of JSON.

Needs numpy and `shared/` alone. Two machines agree where their lines are equal. Every input is made of integers, so
that a digest differs only where the code itself computes otherwise.
"""

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np

from shared.compression.density import value_classes
from shared.compression.draws import raw_draws
from shared.compression.history import SendHistory
from shared.compression.memory import remembered
from shared.compression.partition import history_after
from shared.compression.plan import Plan, plan_from_densities, steps_from_densities
from shared.compression.priority import priorities
from shared.compression.registry import CODECS, codec_for_update, decode_frame, memory_by_codec
from shared.layout import F32, Layout

Prints = Iterator[tuple[str, bytes]]

LAYOUTS = {
    "watch": Layout.of(
        [
            ("near.weight", (32, 6, 5), "weight"),
            ("near.bias", (32,), "bias"),
            ("middle.weight", (64, 32, 5), "weight"),
            ("middle.bias", (64,), "bias"),
            ("far.weight", (64, 64, 3), "weight"),
            ("far.bias", (64,), "bias"),
            ("head.weight", (7, 64), "weight"),
            ("head.bias", (7,), "bias"),
        ]
    ),
    "lenet": Layout.of(
        [
            ("near.weight", (16, 1, 5, 5), "weight"),
            ("near.bias", (16,), "bias"),
            ("far.weight", (32, 16, 5, 5), "weight"),
            ("far.bias", (32,), "bias"),
            ("hidden.weight", (256, 800), "weight"),
            ("hidden.bias", (256,), "bias"),
            ("head.weight", (10, 256), "weight"),
            ("head.bias", (10,), "bias"),
        ]
    ),
}
BUDGETS = (60, 300, 2000)
ROUNDS = 6
CHANCES = (0, 4, 5, 10)


def update_of(layout: Layout, seed: int) -> F32:
    """A heavy-tailed float32 `[size]` update, of integers and powers of two alone; its blocks differ in scale."""
    raw = raw_draws(seed, layout.size)
    parts = [(raw >> np.uint64(shift) & np.uint64(0xFFF)).astype(np.int64) for shift in (0, 12, 24)]
    centred = sum(parts) - 3 * 2048
    octave = (raw_draws(seed + 1, layout.num_blocks) >> np.uint64(61)).astype(np.int64)
    scale = np.repeat(np.int64(1) << octave, layout.block_sizes)
    return (centred**3 * scale).astype(np.float32) / np.float32(1 << 45)


def plans(layout: Layout, budget_bytes: int) -> dict[str, Plan]:
    """A plan of every kind."""
    classes = (raw_draws(5, layout.num_blocks) % np.uint64(9)).astype(np.uint8)
    steps = ((raw_draws(6, layout.num_columns) % np.uint64(9)).astype(np.int64) - 4).astype(np.int8)
    none, public = Plan(budget_bytes), Plan(budget_bytes, classes)
    return {"none": none, "public": public, "columns": Plan(budget_bytes, classes, steps, 12)}


def of_codecs() -> Prints:
    """Frames of every codec, what they decode to, and the memory they leave, three rounds on end."""
    for (name, layout), codec, budget in product(LAYOUTS.items(), CODECS, BUDGETS):
        plan, memory = Plan(budget), memory_by_codec(codec.name).zero(layout.size)
        for turn in range(3):
            update = update_of(layout, 10 + turn)
            total = memory.compensate(update, missed_rounds=turn)
            encoded = codec_for_update(codec.name, update).encode(total, layout, plan)
            decoded = decode_frame(encoded.frame, layout, plan)
            memory = remembered(memory, total, encoded)
            case = f"{name}/{codec.name}/{budget}/{turn}"
            yield f"frame/{case}", encoded.frame
            yield f"decoded/{case}", decoded.indices.tobytes() + decoded.values.tobytes()
            yield f"memory/{case}", memory.state.tobytes()


def of_histories() -> Prints:
    """Rounds of the partition codec under every kind of plan, by what both ends know of earlier ones."""
    for (name, layout), budget, chance in product(LAYOUTS.items(), BUDGETS[:2], CHANCES):
        for kind, public in plans(layout, budget).items():
            history, memory = SendHistory.empty(layout), memory_by_codec("partition").zero(layout.size)
            plan = replace(public, chance_quarters=chance)
            case = f"{name}/{kind}/{budget}/{chance}"
            yield f"plan/{case}", plan.to_bytes()
            for turn in range(ROUNDS):
                total = memory.compensate(update_of(layout, 20 + turn))
                known = plan.knowing(history)
                encoded = codec_for_update("partition", total).encode(total, layout, known)
                decoded = decode_frame(encoded.frame, layout, known)
                history = history_after(history, encoded.frame, decoded.indices, layout)
                memory = remembered(memory, total, encoded)
                yield f"frame/{case}/{turn}", encoded.frame
                yield f"decoded/{case}/{turn}", decoded.indices.tobytes() + decoded.values.tobytes()
                yield f"history/{case}/{turn}", history.to_bytes()
                yield f"classes/{case}/{turn}", value_classes(plan.knowing(history), layout).tobytes()
                yield f"memory/{case}/{turn}", memory.state.tobytes()


def of_tables() -> Prints:
    """What is computed by logarithms and powers: classes and steps of densities, priorities."""
    densities = (raw_draws(7, 1 << 16) >> np.uint64(40)).astype(np.float64) / (1 << 24)
    yield "densities/classes", plan_from_densities(densities).tobytes()
    yield "densities/steps", steps_from_densities(np.maximum(densities * 4, 2.0**-10)).tobytes()
    layout = LAYOUTS["lenet"]
    for chance in CHANCES[1:]:
        yield f"priorities/{chance}", priorities(update_of(layout, 30), layout, chance / 4).tobytes()


@cache
def fingerprints() -> dict[str, str]:
    """The digest of every case by its name."""
    prints: dict[str, str] = {}
    for source in (of_codecs, of_histories, of_tables):
        for name, made in source():
            if name in prints:
                raise KeyError(f"two cases are called {name}")
            prints[name] = hashlib.sha256(made).hexdigest()[:16]
    return prints


if __name__ == "__main__":
    json.dump(fingerprints(), sys.stdout)
