"""`python -m tests.fuzz.mutants TARGET SECONDS`: fuzz by mutating the corpus at random, where atheris is missing."""

import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256

from tests.fuzz.targets import CORPUS, TARGETS, corpus

MOST_BYTES = 8192
MOST_CHANGES = 4
TELLING_BYTES = bytes([0, 1, 0x55, 0x7F, 0x80, 0xAA, 0xFF])

Change = Callable[[bytearray, bytes, random.Random], None]


def _flip_a_bit(data: bytearray, other: bytes, draw: random.Random) -> None:
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _set_a_byte(data: bytearray, other: bytes, draw: random.Random) -> None:
    data[draw.randrange(len(data))] = draw.choice(TELLING_BYTES) if draw.random() < 0.5 else draw.randrange(256)


def _insert_bytes(data: bytearray, other: bytes, draw: random.Random) -> None:
    at, count = draw.randrange(len(data) + 1), 1 << draw.randrange(13)
    data[at:at] = bytes([draw.choice(TELLING_BYTES)]) * count if draw.random() < 0.5 else draw.randbytes(count)


def _remove_bytes(data: bytearray, other: bytes, draw: random.Random) -> None:
    at = draw.randrange(len(data))
    del data[at : at + (1 << draw.randrange(8))]


def _cut_the_end(data: bytearray, other: bytes, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def _go_on_like_another(data: bytearray, other: bytes, draw: random.Random) -> None:
    at = draw.randrange(len(data))
    data[at:] = other[at:]


CHANGES: tuple[Change, ...] = (
    _flip_a_bit,
    _flip_a_bit,
    _set_a_byte,
    _set_a_byte,
    _insert_bytes,
    _remove_bytes,
    _cut_the_end,
    _go_on_like_another,
)


def mutants(seeds: Sequence[bytes], seed: int) -> Iterator[bytes]:
    """Endless variations of the seeds, the same for the same `seed`: up to four changes each."""
    draw = random.Random(seed)
    while True:
        data = bytearray(draw.choice(seeds))
        for _ in range(draw.randint(1, MOST_CHANGES)):
            if data:
                draw.choice(CHANGES)(data, draw.choice(seeds), draw)
        yield bytes(data[:MOST_BYTES])


def main() -> None:
    """Run for that many seconds; an input that fails is added to the corpus, and the run ends with its error."""
    name, seconds = sys.argv[1], float(sys.argv[2])
    target, seeds, deadline, count = TARGETS[name], list(corpus(name).values()), time.monotonic() + float(seconds), 0
    warnings.simplefilter("error")
    for data in mutants(seeds, time.time_ns()):
        try:
            target(data)
        except Exception:
            offender = CORPUS / name / f"offender-{sha256(data).hexdigest()[:12]}"
            offender.write_bytes(data)
            print(f"failed, and kept as {offender}", file=sys.stderr)
            raise
        count += 1
        if time.monotonic() > deadline:
            break
    print(f"{name}: {count} mutants of {len(seeds)} inputs, none failed")


if __name__ == "__main__":
    main()
