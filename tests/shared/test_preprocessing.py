import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.errors import DataError
from shared.labels import Targets
from shared.preprocessing import ExamplePreprocessing, Preprocessing, cut, read_preprocessing, split

WINDOWS = Preprocessing(channels=2, window=4, stride=2, num_classes=3, mean=(1, 0), std=(2, 1))


def _ramp(samples: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Rows (t, 1000 + t), so that every sample tells where it came from."""
    steps = np.arange(samples, dtype=np.float32)
    return np.stack([steps, 1000 + steps], 1)


def test_windows_are_cut_scaled_and_laid_out_by_channel() -> None:
    split = cut([_ramp(20)], [2], WINDOWS)
    assert split.train_x.shape == (6, 2, 4)
    assert split.train_x.dtype == split.test_x.dtype == np.float32
    assert split.train_y.dtype == np.int64
    assert split.train_x[1].tolist() == [[0.5, 1, 1.5, 2], [1002, 1003, 1004, 1005]]
    assert set(split.train_y) == {2}
    assert split.train_x.flags.c_contiguous


@given(
    lengths=st.lists(st.integers(6, 90), min_size=1, max_size=5),
    window=st.integers(1, 8),
    stride=st.integers(1, 9),
    gap=st.integers(0, 2),
)
def test_train_and_test_share_no_sample_and_keep_the_gap(
    lengths: list[int], window: int, stride: int, gap: int
) -> None:
    preprocessing = Preprocessing(
        channels=2, window=window, stride=stride, gap_windows=gap, num_classes=5, mean=(0, 0), std=(1, 1)
    )
    for label, length in enumerate(lengths):
        series = [_ramp(length)]
        if int(0.75 * length) < window:
            continue
        split = cut(series, [label], preprocessing)
        assert split.train_x[:, 0].max() < int(0.75 * length)
        assert len(split.test_x) == len(range(0, length - int(0.75 * length) - (gap + 1) * window + 1, stride))
        if len(split.test_x):
            assert split.test_x[:, 0].min() == int(0.75 * length) + gap * window


def test_device_standardises_by_its_own_training_part_alone() -> None:
    own = WINDOWS.model_copy(update={"mean": None, "std": None, "stride": 1})
    series = np.concatenate([_ramp(30), np.full((10, 2), 1e6, np.float32)])
    split = cut([series], [0], own)
    assert split.train_x[0, 0, 0] == pytest.approx((0 - 14.5) / np.arange(30).std())
    np.testing.assert_allclose(split.train_x[:, 0], split.train_x[:, 1], rtol=1e-4)
    assert split.test_x.min() > 1e4


def test_channel_that_never_moves_is_centred_and_not_blown_up() -> None:
    own = WINDOWS.model_copy(update={"mean": None, "std": None})
    split = cut([np.full((40, 2), 7, np.float32)], [0], own)
    assert not split.train_x.any()


def test_short_series_is_passed_over_while_another_is_long_enough() -> None:
    split = cut([_ramp(3), _ramp(20)], [0, 1], WINDOWS)
    assert set(split.train_y) == {1}


def test_nothing_long_enough_names_what_is_needed() -> None:
    with pytest.raises(DataError, match=r"first 75% of one must have 4 samples .*a\.npz"):
        cut([_ramp(3)], [0], WINDOWS, ["a.npz"])


def test_no_series_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="given: none"):
        cut([], [], WINDOWS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_no_number_is_located(value: float) -> None:
    broken = _ramp(20)
    broken[7, 1] = value
    with pytest.raises(DataError, match=r"b\.npz: -?(nan|inf) at row 7, channel 1"):
        cut([_ramp(20), broken], [0, 0], WINDOWS, ["a.npz", "b.npz"])


@pytest.mark.parametrize("shape", [(20,), (20, 3), (20, 2, 1)])
def test_wrong_channel_count_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"series 0: shape .* 2 channels"):
        cut([np.zeros(shape, np.float32)], [0], WINDOWS)


@pytest.mark.parametrize("label", [-1, 3])
def test_label_out_of_range_is_named(label: int) -> None:
    with pytest.raises(DataError, match=f"series 0: label {label} is not one of 0 to 2"):
        cut([_ramp(20)], [label], WINDOWS)


def test_series_without_a_label_is_refused() -> None:
    with pytest.raises(DataError, match="2 series, 1 labels"):
        cut([_ramp(20), _ramp(20)], [0], WINDOWS)


def test_declaration_survives_json() -> None:
    assert Preprocessing.model_validate_json(WINDOWS.model_dump_json()) == WINDOWS


@pytest.mark.parametrize(
    "change",
    [
        {"std": (0.0, 1.0)},
        {"std": (1.0,)},
        {"std": None},
        {"mean": (0.0,) * 3},
        {"mean": (float("nan"), 0.0)},
        {"window": 0},
        {"stride": 0},
        {"test_fraction": 1.0},
        {"kind": "code"},
        {"script": "x"},
        {"num_classes": 1},
        {"targets": {"shape": (0,)}},
        {"targets": {"bounds": (1.0, 0.0)}},
    ],
)
def test_unsound_declaration_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Preprocessing.model_validate({**WINDOWS.model_dump(), **change})


IMAGES = ExamplePreprocessing(shape=(2, 3, 3), num_classes=3)


def examples(count: int) -> tuple[list[np.ndarray], list[int], list[str]]:
    rng = np.random.default_rng(0)
    x = [(rng.standard_normal((2, 3, 3)) * 4 + 7).astype(np.float32) for _ in range(count)]
    return x, [number % 3 for number in range(count)], [f"cat/{number}.png" for number in range(count)]


def test_whole_examples_are_told_apart_by_their_names_and_standardised_by_the_training_part() -> None:
    found = split(*examples(200)[:2], IMAGES, examples(200)[2])
    assert len(found.train_x) + len(found.test_x) == 200
    assert 25 <= len(found.test_x) <= 75
    assert found.train_x.dtype == np.float32
    np.testing.assert_allclose(found.train_x.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(found.train_x.std((0, 2, 3)), 1, atol=1e-4)


def test_example_stays_on_its_side_when_others_come() -> None:
    x, y, names = examples(100)
    scaled = IMAGES.model_copy(update={"mean": (0.0, 0.0), "std": (1.0, 1.0)})
    few, many = split(x[:60], y[:60], scaled, names[:60]), split(x, y, scaled, names)
    assert few.test_x.tobytes() == many.test_x[: len(few.test_x)].tobytes()
    assert few.train_y.tolist() == many.train_y[: len(few.train_y)].tolist()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"shape": (2, 3, 4)}, r"cat/0\.png: shape \(2, 3, 3\), expected \(2, 3, 4\)"),
        ({"num_classes": 2}, r"cat/2\.png: label 2 is not one of 0 to 1"),
    ],
)
def test_example_that_does_not_fit_is_named(change: dict[str, object], fault: str) -> None:
    x, y, names = examples(10)
    with pytest.raises(DataError, match=fault):
        split(x, y, IMAGES.model_copy(update=change), names)


def test_example_with_a_gap_is_named() -> None:
    x, y, names = examples(10)
    x[4][0, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"cat/4\.png: .*no finite numbers"):
        split(x, y, IMAGES, names)


def test_preprocessing_is_read_by_its_kind() -> None:
    assert read_preprocessing(IMAGES.model_dump(mode="json")) == IMAGES
    assert read_preprocessing(WINDOWS.model_dump(mode="json")) == WINDOWS
    with pytest.raises(ValidationError):
        read_preprocessing({"kind": "other"})


NUMBERS = WINDOWS.model_copy(update={"num_classes": 1, "targets": Targets(), "mean": (0, 0), "std": (1, 1)})


@given(length=st.integers(8, 90), window=st.integers(1, 8), stride=st.integers(1, 9), gap=st.integers(0, 2))
def test_number_of_a_window_is_that_of_its_last_sample(length: int, window: int, stride: int, gap: int) -> None:
    series = _ramp(length)
    if int(0.75 * length) < window:
        return
    changes = {"window": window, "stride": stride, "gap_windows": gap}
    found = split([series], [series[:, 0] * 3], NUMBERS.model_copy(update=changes))
    assert found.train_y.dtype == np.float32
    assert found.train_y.tolist() == (3 * found.train_x[:, 0, -1]).tolist()
    assert found.test_y.tolist() == (3 * found.test_x[:, 0, -1]).tolist()


def test_one_number_for_a_recording_is_that_of_all_its_windows() -> None:
    pair = NUMBERS.model_copy(update={"targets": Targets(shape=(2,))})
    found = split([_ramp(20), _ramp(24)], [np.array(row, np.float32) for row in ((1, 2), (3, 4))], pair)
    assert np.unique(found.train_y, axis=0).tolist() == [[1, 2], [3, 4]]
    assert len(found.train_y) == len(found.train_x)


def test_number_beside_class_and_class_beside_number() -> None:
    with pytest.raises(DataError, match="series 0: its label is no class but a number: write a whole number from 0"):
        split([_ramp(20)], [np.array(1, np.float32)], WINDOWS)
    assert set(split([_ramp(20)], [2], NUMBERS).train_y) == {2.0}


@pytest.mark.parametrize(
    ("label", "fault"),
    [
        (np.ones(19, np.float32), r"a\.npz: labels of shape \(19,\) for 20 samples, this model predicts \(\)"),
        (np.ones((20, 2), np.float32), r"a\.npz: labels of shape \(20, 2\) for 20 samples"),
        (np.where(np.arange(20) == 7, np.nan, 1).astype(np.float32), r"a\.npz, sample 7: label nan, .* finite number"),
        (np.arange(20, dtype=np.float32), r"a\.npz, sample 11: label 11, it must be from 0 to 10: mend it"),
    ],
)
def test_numbers_that_do_not_fit_are_named_by_file_and_sample(label: np.ndarray, fault: str) -> None:
    bounds = (0.0, 10.0) if fault.startswith(r"a\.npz, sample 11") else None
    with pytest.raises(DataError, match=fault):
        split([_ramp(20)], [label], NUMBERS.model_copy(update={"targets": Targets(bounds=bounds)}), ["a.npz"])


WORDS = ExamplePreprocessing(shape=(4,), num_classes=2, vocabulary=9)


def test_tokens_stay_whole_numbers_and_are_not_scaled() -> None:
    x = [np.arange(4) + number % 5 for number in range(40)]
    found = split(x, [0] * 40, WORDS)
    assert found.train_x.dtype == found.test_x.dtype == np.int64
    assert sorted(map(tuple, [*found.train_x, *found.test_x])) == sorted(map(tuple, x))


@pytest.mark.parametrize(
    ("example", "fault"),
    [
        (np.array([0, 8, 9, 1]), r"example 1: token 9 at place 2, the model knows 0 to 8"),
        (np.array([0, 1, 2, -1]), r"example 1: token -1 at place 3"),
        (np.zeros(3, np.int64), r"example 1: shape \(3,\), expected \(4,\)"),
        (np.zeros(4, np.float32), "example 1: float32 values, this model takes tokens: write them as whole numbers"),
    ],
)
def test_token_that_the_model_does_not_know_is_placed(example: np.ndarray, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        split([np.zeros(4, np.int64), example], [0, 0], WORDS)


def test_whole_numbers_are_no_measurements() -> None:
    with pytest.raises(DataError, match="example 0: int64 values, this model takes measurements"):
        split([np.zeros((2, 3, 3), np.int64)], [0], IMAGES)
    with pytest.raises(DataError, match="series 0: int64 values, this model takes measurements"):
        split([np.zeros((20, 2), np.int64)], [0], WINDOWS)


@pytest.mark.parametrize(
    "change",
    [
        {"vocabulary": 5, "mean": (0, 0), "std": (1, 1)},
        {"vocabulary": 0},
        {"channel_order": "bgr"},
        {"shape": (3, 4, 4), "vocabulary": 5, "channel_order": "bgr"},
        {"num_classes": 1},
    ],
)
def test_unsound_declaration_of_examples_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ExamplePreprocessing.model_validate({**IMAGES.model_dump(), **change})


def test_device_of_before_can_read_a_declaration_that_says_nothing_new() -> None:
    written = WINDOWS.model_dump(mode="json", exclude_none=True)
    known = {"kind", "channels", "window", "stride", "test_fraction", "gap_windows", "mean", "std", "num_classes"}
    assert written.keys() <= known
