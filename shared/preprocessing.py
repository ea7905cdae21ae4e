"""How raw recordings become training windows: declared in a bundle, applied on the device, never code."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from shared.errors import DataError
from shared.layout import F32, I64

PositiveScale = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Preprocessing(BaseModel):
    """Windows of a multi-channel series: `window` and `stride` in samples, `mean` and `std` one value a channel.

    Without `mean` and `std` every device standardises by those of its own training part, which it tells no one.
    The first `1 - test_fraction` of each series trains; after a gap of `gap_windows` windows the rest tests, so that
    no sample, nor its close neighbour, is in both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["windows"] = "windows"
    channels: int = Field(ge=1, le=4096)
    window: int = Field(ge=1, le=1 << 20)
    stride: int = Field(ge=1, le=1 << 20)
    test_fraction: float = Field(default=0.25, ge=0, lt=1)
    gap_windows: int = Field(default=1, ge=0, le=1024)
    mean: tuple[FiniteFloat, ...] | None = None
    std: tuple[PositiveScale, ...] | None = None
    num_classes: int = Field(ge=2, le=1 << 16)

    @model_validator(mode="after")
    def _one_scale_a_channel(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together: give both, or neither to standardise on the device")
        if any(scale is not None and len(scale) != self.channels for scale in (self.mean, self.std)):
            raise ValueError(f"{self.channels} channels need as many values in mean and in std")
        return self


class ExamplePreprocessing(BaseModel):
    """Whole examples of `shape`, such as images `[channels, height, width]`; `mean` and `std` one value a channel.

    Without `mean` and `std` every device standardises by those of its own training part, which it tells no one. An
    example's name alone decides whether it tests, so that it stays on its side when others come or go.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["examples"] = "examples"
    shape: tuple[Annotated[int, Field(ge=1, le=1 << 16)], ...] = Field(min_length=1, max_length=4)
    test_fraction: float = Field(default=0.25, ge=0, lt=1)
    mean: tuple[FiniteFloat, ...] | None = None
    std: tuple[PositiveScale, ...] | None = None
    num_classes: int = Field(ge=2, le=1 << 16)

    @model_validator(mode="after")
    def _one_scale_a_channel(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std go together: give both, or neither to standardise on the device")
        if any(scale is not None and len(scale) != self.shape[0] for scale in (self.mean, self.std)):
            raise ValueError(f"{self.shape[0]} channels need as many values in mean and in std")
        return self


def read_preprocessing(fields: Mapping[str, object]) -> Preprocessing | ExamplePreprocessing:
    """What a bundle declares; raises pydantic's `ValidationError`."""
    kind = ExamplePreprocessing if fields.get("kind") == "examples" else Preprocessing
    return kind.model_validate(dict(fields))


@dataclass(frozen=True, slots=True)
class Split:
    """Examples to train and to test on: `x` float32 `[n, ...]`, such as `[n, channels, window]`, `y` int64 `[n]`."""

    train_x: F32
    train_y: I64
    test_x: F32
    test_y: I64


def cut(
    series: Sequence[npt.NDArray[np.floating]],
    labels: Sequence[int],
    preprocessing: Preprocessing,
    names: Sequence[str] = (),
) -> Split:
    """Cut series of `[t, channels]`, one label each, into standardised windows; `names` (say, files) serve errors.

    A series too short for a window is passed over. Raises `DataError` where a series or label is unusable, or no
    series gives a window to train on.
    """
    names = names or [f"series {number}" for number in range(len(series))]
    if not len(series) == len(labels) == len(names):
        raise DataError(f"{len(series)} series, {len(labels)} labels and {len(names)} names: give one of each a series")
    for name, samples, label in zip(names, series, labels, strict=True):
        _check(name, samples, label, preprocessing)
    train_share = 1 - preprocessing.test_fraction
    gap = preprocessing.gap_windows * preprocessing.window
    ends = [int(train_share * len(samples)) for samples in series]
    train_parts = [samples[:end] for samples, end in zip(series, ends, strict=True)]
    test_parts = [samples[end + gap :] for samples, end in zip(series, ends, strict=True)]
    if not any(len(part) >= preprocessing.window for part in train_parts):
        raise DataError(
            f"no series is long enough to train on: the first {train_share:.0%} of one must have "
            f"{preprocessing.window} samples (given: {', '.join(names[:3]) or 'none'})"
        )
    mean, std = _scale(train_parts, preprocessing)
    train = [_windows((part - mean) / std, preprocessing) for part in train_parts]
    test = [_windows((part - mean) / std, preprocessing) for part in test_parts]
    return Split(np.concatenate(train), _repeated(labels, train), np.concatenate(test), _repeated(labels, test))


def split(
    series: Sequence[npt.NDArray[np.floating]],
    labels: Sequence[int],
    preprocessing: Preprocessing | ExamplePreprocessing,
    names: Sequence[str] = (),
) -> Split:
    """Recordings cut into windows, or whole examples told apart; raises `DataError` as `cut` does."""
    if isinstance(preprocessing, Preprocessing):
        return cut(series, labels, preprocessing, names)
    return _told_apart(series, labels, preprocessing, names or [f"example {number}" for number in range(len(series))])


def _told_apart(
    series: Sequence[npt.NDArray[np.floating]],
    labels: Sequence[int],
    preprocessing: ExamplePreprocessing,
    names: Sequence[str],
) -> Split:
    for name, example, label in zip(names, series, labels, strict=True):
        if example.shape != preprocessing.shape:
            raise DataError(f"{name}: shape {example.shape}, expected {preprocessing.shape}")
        if not 0 <= label < preprocessing.num_classes:
            raise DataError(f"{name}: label {label} is not one of 0 to {preprocessing.num_classes - 1}")
        if not np.isfinite(example).all():
            raise DataError(f"{name}: it has values that are no finite numbers; remove the example")
    tests = np.asarray([_tests(name, preprocessing.test_fraction) for name in names], bool)
    if tests.all():
        raise DataError(f"no example to train on among {len(names)}: add some")
    x, y = np.stack(series).astype(np.float32, copy=False), np.asarray(labels, np.int64)
    mean, std = _example_scale(x[~tests], preprocessing)
    x = (x - mean) / std
    return Split(x[~tests], y[~tests], x[tests], y[tests])


def _tests(name: str, test_fraction: float) -> bool:
    """Is the example of this name one to test on: drawn by its name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") < test_fraction * 2.0**64


def _example_scale(train: F32, preprocessing: ExamplePreprocessing) -> tuple[F32, F32]:
    """Mean and standard deviation a channel, float32 `[channels, 1, ...]`."""
    ones = (-1, *[1] * (len(preprocessing.shape) - 1))
    if preprocessing.mean is not None and preprocessing.std is not None:
        mean, std = np.asarray(preprocessing.mean), np.asarray(preprocessing.std)
    else:
        others = tuple(axis for axis in range(train.ndim) if axis != 1)
        mean, std = train.mean(others, np.float64), train.std(others, np.float64)
    return mean.astype(np.float32).reshape(ones), np.where(std > 0, std, 1).astype(np.float32).reshape(ones)


def _check(name: str, samples: npt.NDArray[np.floating], label: int, preprocessing: Preprocessing) -> None:
    if samples.ndim != 2 or samples.shape[1] != preprocessing.channels:
        raise DataError(f"{name}: shape {samples.shape}, expected [samples, {preprocessing.channels} channels]")
    if not 0 <= label < preprocessing.num_classes:
        raise DataError(f"{name}: label {label} is not one of 0 to {preprocessing.num_classes - 1}")
    finite = np.isfinite(samples)
    if not finite.all():
        row, channel = np.argwhere(~finite)[0]
        raise DataError(
            f"{name}: {samples[row, channel]} at row {row}, channel {channel}; remove the recording or fill the gap"
        )


def _scale(train_parts: Sequence[npt.NDArray[np.floating]], preprocessing: Preprocessing) -> tuple[F32, F32]:
    """Mean and standard deviation a channel, float32 `[channels]`; a channel that never moves is left as it is."""
    if preprocessing.mean is not None and preprocessing.std is not None:
        return np.asarray(preprocessing.mean, np.float32), np.asarray(preprocessing.std, np.float32)
    samples = np.concatenate(train_parts).astype(np.float64)
    std = samples.std(0)
    return samples.mean(0).astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def _windows(samples: npt.NDArray[np.floating], preprocessing: Preprocessing) -> F32:
    """Float32 `[n, channels, window]`; n is 0 where `samples` is shorter than a window."""
    if len(samples) < preprocessing.window:
        return np.empty((0, preprocessing.channels, preprocessing.window), np.float32)
    views = np.lib.stride_tricks.sliding_window_view(samples, preprocessing.window, axis=0)
    return np.ascontiguousarray(views[:: preprocessing.stride], np.float32)


def _repeated(labels: Sequence[int], windows: Sequence[F32]) -> I64:
    return np.repeat(np.asarray(labels, np.int64), [len(rows) for rows in windows])
