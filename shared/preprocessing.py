"""How raw recordings become training windows: declared in a bundle, applied on the device, never code."""

from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True)
class Split:
    """Windows to train and to test on: `x` float32 `[n, channels, window]`, `y` int64 `[n]`."""

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
