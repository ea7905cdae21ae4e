import itertools
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import save_file

from coordinator import codec_trial, main
from coordinator.codec_trial import (
    PERFECT_PLAN,
    WITHOUT_BUDGET,
    Arrays,
    NamedUpdate,
    Trial,
    budget_of_ratio,
    guessed_role,
    perfect_classes,
    try_codecs,
)
from shared.compression.codec import Encoded, SparseUpdate
from shared.compression.plan import DENSEST_CLASS, Plan
from shared.compression.registry import CODECS
from shared.errors import DataError, DecodeError
from shared.layout import F32, Layout

Console = Callable[..., tuple[int, str, str]]
BUDGETS = [600, 200]


def gradient() -> dict[str, F32]:
    """A strongly structured update: the rows of its weight differ in scale by factors."""
    random = np.random.default_rng(0)
    rows = random.lognormal(0, 1.2, (64, 1))
    return {
        "fc.weight": (rows * random.standard_t(4, (64, 200))).astype(np.float32),
        "fc.bias": random.standard_t(4, 64).astype(np.float32),
        "bn1.weight": np.zeros(16, np.float32),
    }


@pytest.fixture(scope="module")
def update() -> NamedUpdate:
    return NamedUpdate.of(gradient())


@pytest.fixture(scope="module")
def trials(update: NamedUpdate) -> list[Trial]:
    return try_codecs(update, BUDGETS, itertools.count().__next__)


@pytest.fixture
def console(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Console:
    """Calls `gradsieve codec try` in a folder of its own; gives exit code, output and error output."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gradsieve", "codec", "try", *arguments])
        with pytest.raises(SystemExit) as ended:
            main.main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return call


def write_npz(file: Path, **arrays: npt.NDArray[np.generic]) -> None:
    np.savez(file, **arrays)  # type: ignore[arg-type]  # mypy takes an array for its flag


def budgeted(trials: list[Trial], budget_bytes: int | None) -> dict[str, Trial]:
    return {trial.codec: trial for trial in trials if trial.budget_bytes == budget_bytes}


@pytest.mark.parametrize(
    ("name", "shape", "role"),
    [
        ("fc.weight", (4, 3), "weight"),
        ("norm.weight", (4, 3), "weight"),
        ("input_layernorm.weight", (4,), "norm"),
        ("BatchNorm_0/scale", (4,), "norm"),
        ("bn1.bias", (4,), "norm"),
        ("h.0.ln_1.weight", (4,), "norm"),
        ("kiln.bias", (4,), "bias"),
        ("temperature", (), "bias"),
    ],
)
def test_role_is_guessed_by_shape_then_name(name: str, shape: tuple[int, ...], role: str) -> None:
    assert guessed_role(name, shape) == role


def test_update_is_second_less_first_by_name_whatever_the_order() -> None:
    before: Arrays = {"a": np.array([1.0, 2.0], np.float32), "b": np.ones((2, 2), np.float32)}
    after: Arrays = {"b": np.full((2, 2), 3, np.float32), "a": np.array([1.5, 2.0], np.float32)}
    np.testing.assert_array_equal(NamedUpdate.between(before, after).values, [0.5, 0, 2, 2, 2, 2])


def test_difference_of_float64_is_taken_before_rounding() -> None:
    before, after = {"a": np.array([1.0])}, {"a": np.array([1.0 + 1e-12])}
    assert NamedUpdate.between(before, after).values[0] == pytest.approx(1e-12, rel=1e-3)


def test_difference_of_float16_is_taken_in_float32() -> None:
    before, after = {"a": np.array([2048], np.float16)}, {"a": np.array([-1.5], np.float16)}
    assert NamedUpdate.between(before, after).values.tolist() == [-2049.5]


def test_tensors_that_are_not_floating_or_are_empty_are_skipped_and_named() -> None:
    arrays: Arrays = {"w": np.ones(3, np.float64), "steps": np.array(7), "mask": np.ones(2, bool), "none": np.ones(0)}
    update = NamedUpdate.of(arrays)
    assert update.skipped == ("mask", "none", "steps")
    assert update.layout == Layout.of([("w", (3,), "bias")])
    assert update.values.dtype == np.float32


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_value_that_is_no_finite_float32_is_refused(value: float) -> None:
    with pytest.raises(DataError, match=r"tensor b holds NaN, infinity"):
        NamedUpdate.of({"a": np.ones(2), "b": np.array([1.0, value])})


def test_infinities_that_cancel_are_refused() -> None:
    with pytest.raises(DataError, match="tensor a holds NaN"):
        NamedUpdate.between({"a": np.array([np.inf])}, {"a": np.array([np.inf])})


def test_equal_checkpoints_are_refused() -> None:
    with pytest.raises(DataError, match="every value of the update is zero"):
        NamedUpdate.between({"a": np.ones(2)}, {"a": np.ones(2)})


def test_every_codec_is_tried_at_every_budget_it_obeys_and_else_once(trials: list[Trial]) -> None:
    obeying = {codec.name for codec in CODECS} - WITHOUT_BUDGET | {PERFECT_PLAN}
    for budget_bytes in BUDGETS:
        assert budgeted(trials, budget_bytes).keys() == obeying
    assert budgeted(trials, None).keys() == WITHOUT_BUDGET
    assert len(trials) == len(BUDGETS) * len(obeying) + len(WITHOUT_BUDGET)


def test_codecs_without_a_budget_are_those_whose_frames_no_budget_changes(update: NamedUpdate) -> None:
    def frame(index: int, budget_bytes: int) -> bytes:
        return CODECS[index].encode(update.values, update.layout, Plan(budget_bytes)).frame

    unchanged = {codec.name for index, codec in enumerate(CODECS) if frame(index, 100) == frame(index, 10_000)}
    assert unchanged == WITHOUT_BUDGET


def test_trials_are_sorted_by_error_within_each_budget(trials: list[Trial]) -> None:
    budgets = [trial.budget_bytes for trial in trials]
    assert [budget for budget, _ in itertools.groupby(budgets)] == [*BUDGETS, None]
    for budget_bytes in (*BUDGETS, None):
        errors = [trial.nmse for trial in budgeted(trials, budget_bytes).values()]
        assert errors == sorted(errors)


def test_figures_are_those_of_the_real_frames(update: NamedUpdate, trials: list[Trial]) -> None:
    for codec in CODECS:
        trial = budgeted(trials, None if codec.name in WITHOUT_BUDGET else BUDGETS[0])[codec.name]
        encoded = codec.encode(update.values, update.layout, Plan(BUDGETS[0]))
        rest = update.values.astype(np.float64) - encoded.delivered.densify()
        energy = float(np.square(update.values, dtype=np.float64).sum())
        assert (trial.frame_bytes, trial.values_sent) == (len(encoded.frame), len(encoded.delivered.indices))
        assert trial.ratio == 4 * update.layout.size / len(encoded.frame)
        assert trial.nmse == pytest.approx(float((rest * rest).sum()) / energy)


def test_dense_frame_has_no_error_and_an_empty_one_loses_all(update: NamedUpdate) -> None:
    trials = try_codecs(update, [1], itertools.count().__next__)
    assert budgeted(trials, None)["dense"].nmse == 0
    empty = budgeted(trials, 1)["partition"]
    assert (empty.frame_bytes, empty.values_sent, empty.nmse) == (1, 0, 1)
    assert budgeted(trials, 1)["qsgd"].is_over_budget


def test_perfect_plan_serves_a_structured_update_better_and_says_what_it_weighs(trials: list[Trial]) -> None:
    for budget_bytes in BUDGETS:
        found = budgeted(trials, budget_bytes)
        assert found[PERFECT_PLAN].nmse < found["partition"].nmse
        assert found[PERFECT_PLAN].plan_bytes > 0 == found["partition"].plan_bytes


def test_perfect_plan_calls_the_densest_row_so_and_a_silent_tensor_dead() -> None:
    weight = np.full((4, 64), 0.001, np.float32)
    weight[2] = 1
    update = NamedUpdate.of({"w": weight, "bn.bias": np.zeros(64, np.float32)})
    assert perfect_classes(update, 14).tolist() == [0, 0, 0, DENSEST_CLASS, 0]


def test_time_is_the_best_of_three() -> None:
    ticks = itertools.accumulate(itertools.cycle([0.005, 0.003, 0.004, 0.009]))
    trial = try_codecs(NamedUpdate.of({"a": np.ones(4)}), [], lambda: round(next(ticks), 6))[0]
    assert trial.encode_milliseconds == pytest.approx(3)


def test_slow_step_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(codec_trial, "CODECS", [Forgetful(calls)])
    with pytest.raises(DecodeError):
        try_codecs(NamedUpdate.of({"a": np.ones(4)}), [], itertools.count(0, 2).__next__)
    assert calls == ["encode", "decode"]


def test_codec_that_decodes_something_else_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_trial, "CODECS", [Forgetful([])])
    with pytest.raises(DecodeError, match="codec dense decodes something else than it delivers"):
        try_codecs(NamedUpdate.of({"a": np.ones(4)}), [], itertools.count().__next__)


class Forgetful:
    name = "dense"
    wire_id = 3

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        self.calls.append("encode")
        return Encoded(b"\3", SparseUpdate(layout.size, np.arange(layout.size), update))

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        self.calls.append("decode")
        return SparseUpdate.nothing(layout.size)


def test_budget_of_a_ratio_is_that_share_of_float32_and_never_nothing() -> None:
    layout = Layout.of([("w", (100, 10), "weight")])
    assert [budget_of_ratio(ratio, layout) for ratio in (1, 300, 1e9)] == [4000, 13, 1]


def test_two_checkpoints_of_either_type_give_the_same_trials(console: Console, tmp_path: Path) -> None:
    zeros = {name: np.zeros_like(array) for name, array in gradient().items()}
    write_npz(tmp_path / "before.npz", **zeros)
    save_file(gradient(), tmp_path / "after.safetensors")
    write_npz(tmp_path / "update.npz", **gradient())
    two = console("before.npz", "after.safetensors", "--budget", "300", "--json")
    one = console("update.npz", "--budget", "300", "--json")
    found = [[(t["codec"], t["frame_bytes"], t["nmse"]) for t in json.loads(out)["trials"]] for _, out, _ in (one, two)]
    assert found[0] == found[1]
    assert two[0] == 0
    assert two[2] == ""


def test_piped_output_is_plain_lines_with_every_row_and_what_was_skipped(console: Console, tmp_path: Path) -> None:
    write_npz(tmp_path / "update.npz", steps=np.array(3), **gradient())
    code, out, _ = console("update.npz", "--ratio", "100", "--ratio", "200", "--budget", "1000")
    assert code == 0
    assert out.isascii()
    lines = [line.split() for line in out.splitlines()]
    assert [line[0] for line in lines if line[1:3] == ["partition,", "perfect"]] == ["1,000", "515", "257"]
    assert [line[0] for line in lines if "dense" in line] == ["any"]
    assert lines[-1] == ["skipped,", "no", "floating", "values:", "steps"]


def test_bfloat16_is_read_and_a_type_that_numpy_lacks_is_skipped(console: Console, tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 0.125, 3.0], np.float32)
    data = (values.view(np.uint32) >> 16).astype("<u2").tobytes() + bytes(2)
    entries = {
        "w": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]},
        "f8": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [8, 10]},
    }
    header = json.dumps(entries).encode()
    (tmp_path / "brain.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)
    code, out, _ = console("brain.safetensors", "--json")
    found = json.loads(out)
    assert (code, found["values"], found["skipped"]) == (0, 4, ["f8"])
    assert next(trial["nmse"] for trial in found["trials"] if trial["codec"] == "fp16") == 0


def files(folder: Path) -> None:
    write_npz(folder / "good.npz", a=np.ones((2, 3)), b=np.ones(2))
    write_npz(folder / "shape.npz", a=np.ones((3, 2)), b=np.ones(2))
    write_npz(folder / "fewer.npz", a=np.zeros((2, 3)))
    write_npz(folder / "nan.npz", a=np.array([1, np.nan]))
    write_npz(folder / "whole.npz", a=np.array([1, 2]))
    write_npz(folder / "pickled.npz", a=np.array([{}], object))
    write_npz(folder / "many.npz", **{str(number): np.ones(1) for number in range(4097)})
    np.save(folder / "array.npy", np.ones(3))
    (folder / "array.npy").rename(folder / "array.npz")
    (folder / "torch.pt").write_bytes(b"PK")
    (folder / "bad.safetensors").write_bytes(b"x" * 100)
    (folder / "cut.npz").write_bytes((folder / "good.npz").read_bytes()[:-30])
    (folder / "bent.npz").write_bytes((folder / "good.npz").read_bytes().replace(b"\x93NUMPY", b"\x93NUMPX"))
    (folder / "folder.npz").mkdir()


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ("absent.npz", 66, "absent.npz: there is no such file"),
        ("good.npz absent.safetensors", 66, "absent.safetensors: there is no such file"),
        ("folder.npz", 66, "folder.npz: there is no such file"),
        ("torch.pt", 66, "torch.pt: only .safetensors and .npz files can be read"),
        ("bad.safetensors", 66, "bad.safetensors: damaged or no safetensors file"),
        ("array.npz", 66, "array.npz: damaged or no .npz archive"),
        ("cut.npz", 66, "cut.npz: damaged or no .npz archive"),
        ("bent.npz", 66, "bent.npz: "),
        ("pickled.npz", 66, "pickled.npz: Object arrays cannot be loaded"),
        ("nan.npz", 66, "tensor a holds NaN"),
        ("whole.npz", 66, "no tensor holds floating values"),
        ("good.npz good.npz", 66, "every value of the update is zero"),
        ("good.npz shape.npz", 66, "tensor a is [2, 3] in the first checkpoint and [3, 2] in the second"),
        ("good.npz fewer.npz", 66, "tensor b is [2] in the first checkpoint and absent in the second"),
        ("fewer.npz good.npz", 66, "tensor b is absent in the first checkpoint and [2] in the second"),
        ("many.npz", 65, "a layout needs 1 to 4096 tensors"),
        ("good.npz --ratio 0.5", 78, "--ratio 0.5: it must be a number from 1 up"),
        ("good.npz --ratio nan", 78, "--ratio nan: it must be a number from 1 up"),
    ],
)
def test_unusable_input_is_one_line_with_its_own_code(
    arguments: str, code: int, expected: str, console: Console, tmp_path: Path
) -> None:
    files(tmp_path)
    found, out, err = console(*arguments.split())
    assert (found, out, len(err.splitlines())) == (code, "", 1), err
    assert err.startswith("gradsieve: ")
    assert expected in err
