"""`python -m tests.fuzz.seeds`: write the corpus's first inputs, real frames of every codec, plans and an update.

What fuzzing found later lies beside them and is left alone.
"""

from collections.abc import Iterator

import numpy as np

from shared.compression.history import SendHistory
from shared.compression.plan import MOST_BUDGET_BYTES, Plan
from shared.compression.registry import CODECS
from shared.layout import F32, Layout
from shared.update import UpdateHeader, UpdateObject
from tests.fuzz.targets import CORPUS, LAYOUTS, plan_of

LAYOUTS_AND_BUDGETS = ((0, 60), (0, 300), (1, 14), (1, 60), (2, 60), (3, 120))
LONGEST_SEED_BYTES = 320
HEADER = UpdateHeader(b"run!", b"base", 300, 2_000, 200, 0.5, 700, 800, 0.001)


def gradient_like(layout: Layout) -> F32:
    """Student-t values whose blocks have scales of their own."""
    random = np.random.default_rng(layout.size)
    scales = np.repeat(np.exp(2 * random.normal(size=layout.num_blocks)), np.diff(layout.block_starts))
    update: F32 = (random.standard_t(4, layout.size) * scales).astype(np.float32)
    return update


def frame_seeds() -> Iterator[tuple[str, bytes]]:
    """Frames of every codec, layout, kind of classes and several budgets, but for those that are long."""
    for number, budget_bytes in LAYOUTS_AND_BUDGETS:
        layout = LAYOUTS[number]
        for codec in CODECS:
            for kind in range(16 if codec.name == "partition" else 1):
                plan = plan_of(4 * kind, layout).within(budget_bytes)
                frame = codec.encode(gradient_like(layout), layout, plan).frame
                if len(frame) <= LONGEST_SEED_BYTES:
                    yield f"{codec.name}-{number}-{kind}-{budget_bytes}", bytes([number, 4 * kind]) + frame


def offenders() -> Iterator[tuple[str, bytes]]:
    """Frames that once got more out of a decoder than `DecodeError`."""
    ones_and_zeros = f"{0x3F80_0000:032b}{65_535:016b}{0:05b}" + "1" + "0" * 910 + "1" * 16_000
    # A level of 16,000 bits, too long to be put into an error's text.
    yield "offender-qsgd-level", bytes([0, 0, 9]) + int(ones_and_zeros[:16_960], 2).to_bytes(2_120, "big")


def plan_seeds() -> Iterator[tuple[str, bytes]]:
    """Plans of every layout and kind of classes, one with classes that are packed, and the largest budget."""
    for number, layout in enumerate(LAYOUTS):
        for kind in range(8):
            yield f"classes-{number}-{kind}", bytes([number]) + plan_of(4 * kind, layout).within(300).to_bytes()
        packed = np.random.default_rng(1).integers(0, 9, layout.num_blocks, np.uint8)
        yield f"packed-{number}", bytes([number]) + Plan(MOST_BUDGET_BYTES, packed).to_bytes()


def history_seeds() -> Iterator[tuple[str, bytes]]:
    """Histories of several lengths for the smaller layouts."""
    for number in (1, 2):
        history = SendHistory.empty(LAYOUTS[number])
        for frames in range(10):
            if frames in {0, 1, 3, 9}:
                yield f"frames-{number}-{frames}", bytes([number]) + history.to_bytes()
            history = history.after(np.arange(frames % 3, LAYOUTS[number].size, 5 + frames), LAYOUTS[number])


def write_seeds() -> None:
    """Write all seeds."""
    seeds = {
        "frame": dict([*frame_seeds(), *offenders()]),
        "plan": dict(plan_seeds()),
        "history": dict(history_seeds()),
        "update": {"whole": UpdateObject(HEADER, b"\x01\x02\x03").pack(), "no-frame": UpdateObject(HEADER, b"").pack()},
    }
    for target, inputs in seeds.items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in inputs.items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    write_seeds()
