"""What is compared between an emulated board and this machine; every check returns what it measured, in lines."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.compression.partition import PartitionCodec
from shared.compression.plan import Plan
from shared.layout import Layout
from tests.aarch64 import training_step
from tests.aarch64.board import PLACE, Board
from tests.aarch64.board_root import PACKAGES
from tests.aarch64.fingerprints import fingerprints
from tests.aarch64.mixed_fleet import ROUNDS, MixedFleet
from tests.aarch64.shared_objects import AARCH64, LARGEST_PAGE_BYTES, machine, page_bytes, shared_objects
from tests.aarch64.step_cases import CASES, write_case
from tests.aarch64.training_step import BUDGET_BYTES, Answer

Lines = list[str]
Check = Callable[[Board], Lines]

CLOSE = 1e-5
STEP_SECONDS = 900.0
CODEC_SECONDS = 1800.0
TESTS_SECONDS = 7200.0
GOLDEN_TESTS = ("tests/shared", "tests/edge_client/test_pending.py")
NEED_A_COORDINATOR = ("test_paho_transport.py", "test_transport_contract.py")
"""Tests of `shared/` that start a broker, which a board has not."""

SHOWN = 8


def libraries(board: Board) -> Lines:
    """Every shared object of the wheels is aarch64, and can be loaded where pages have 16 KiB."""
    objects = shared_objects(board.root / PACKAGES)
    contents = {path: path.read_bytes() for path in objects}
    strangers = [path.name for path, content in contents.items() if machine(content) != AARCH64]
    assert objects, f"no shared object in {board.root / PACKAGES}: the wheels were not unpacked"
    assert not strangers, f"not for aarch64: {strangers}"
    pages = {path.name: page_bytes(content) for path, content in contents.items()}
    small = [name for name, size in pages.items() if size < LARGEST_PAGE_BYTES]
    assert not small, f"cannot be loaded with pages of {LARGEST_PAGE_BYTES} bytes: {small}"
    return [f"{len(objects)} shared objects, all for pages of {min(pages.values()) >> 10} KiB at least"]


def step(board: Board) -> Lines:
    """Loss and gradient of a training step are within 1e-5 of this machine's and of torch's, by their norm."""
    folder = board.work / "cases"
    torch = {name: write_case(name, folder / name) for name in CASES}
    board.python("-m", "tests.aarch64.training_step", f"{PLACE}/cases", deadline_seconds=STEP_SECONDS)
    return [_compared(name, folder / name, *torch[name]) for name in CASES]


def _compared(name: str, case: Path, torch_loss: float, torch_gradient: npt.NDArray[np.float32]) -> str:
    with np.load(case / "answer.npz", allow_pickle=False) as file:
        there: Answer = dict(file)
    here = training_step.answer(case)
    apart = {key: _distance(there[key], here[key]) for key in ("loss", "gradient", "update", "mean_loss", "score")}
    apart["loss of torch"] = _distance(there["loss"], np.array(torch_loss))
    apart["gradient of torch"] = _distance(there["gradient"], torch_gradient)
    far = {key: distance for key, distance in apart.items() if not distance <= CLOSE}
    assert not far, f"{name}: further than {CLOSE:g} from this machine: {far}"
    return (
        f"{name}: {', '.join(f'{key} {distance:.1e}' for key, distance in apart.items())}; {_sent(case, there, here)}"
    )


def _distance(there: npt.NDArray[np.generic], here: npt.NDArray[np.generic]) -> float:
    """The norm of the difference over the norm of what this machine has."""
    a, b = np.asarray(there, np.float64), np.asarray(here, np.float64)
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def _sent(case: Path, there: Answer, here: Answer) -> str:
    """How far the frames of the two updates, which differ in their last bits, send the same values."""
    layout = Layout.of(
        [(name, tuple(shape), role) for name, shape, role in json.loads((case / "layout.json").read_text())]
    )
    frames = [np.asarray(of["frame"], np.uint8).tobytes() for of in (there, here)]
    sent = [set(PartitionCodec().decode(frame, layout, Plan(BUDGET_BYTES)).indices.tolist()) for frame in frames]
    return f"{len(sent[0] & sent[1])} of {len(sent[1])} sent values at the same places"


def golden(board: Board) -> Lines:
    """The golden files of codecs, frames, messages and bundles are made and read on the board, byte for byte."""
    paths = [f"{PLACE}/{path}" for path in GOLDEN_TESTS]
    return _pytest(board, "--noconftest", "-k", "golden", *paths, deadline_seconds=CODEC_SECONDS)


def codecs(board: Board) -> Lines:
    """Frames, histories, classes and what codecs keep are the same bytes for thousands of updates."""
    there = json.loads(board.python("-m", "tests.aarch64.fingerprints", deadline_seconds=CODEC_SECONDS))
    here = fingerprints()
    assert there.keys() == here.keys(), "the board has other cases: its copy of the tests is not this one"
    other = [name for name in here if there[name] != here[name]]
    assert not other, f"{len(other)} of {len(here)} differ: {other[:SHOWN]}"
    kinds = Counter(name.partition("/")[0] for name in here)
    return [f"{len(here)} digests equal: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}"]


def fleet(board: Board) -> Lines:
    """A client on the board and one on this machine train together over a broker; every update is accepted."""
    with MixedFleet(board) as made:
        outcome = made.train()
    assert outcome.updates == dict.fromkeys(made.names, ROUNDS), f"accepted updates: {outcome.updates}"
    assert outcome.refused == 0, f"{outcome.refused} updates were refused"
    assert outcome.trainer, "no trainer process was seen beside the agent"
    assert outcome.exit_code == 0, f"the agent ended with {outcome.exit_code}: {made.said()}"
    return outcome.lines()


def shared_tests(board: Board) -> Lines:
    """All tests of what both ends share pass on the board; this takes long."""
    return _pytest(board, f"{PLACE}/tests/shared", deadline_seconds=TESTS_SECONDS)


def _pytest(board: Board, *arguments: str, deadline_seconds: float) -> Lines:
    """The last line that pytest prints on the board."""
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", PLACE, "-c", f"{PLACE}/pyproject.toml"]
    options += [f"--ignore={PLACE}/tests/shared/{name}" for name in NEED_A_COORDINATOR]
    said = board.python("-m", "pytest", *options, *arguments, deadline_seconds=deadline_seconds)
    return [said.strip().splitlines()[-1]]


CHECKS: dict[str, Check] = {"libraries": libraries, "step": step, "golden": golden, "codecs": codecs, "fleet": fleet}

EXTRA_CHECKS: dict[str, Check] = {"shared": shared_tests}
"""Run only where they are named."""
