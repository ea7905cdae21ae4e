"""How raw recordings become training windows: declared in a bundle, applied on the device, never code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from shared.errors import DataError
from shared.example_split import tell_apart
from shared.labels import Inputs, Label, Labels, Series, Targets, class_number
from shared.layout import F32

PositiveScale = Annotated[float, Field(gt=0, allow_inf_nan=False)]
COLOURS = "rgb"
IMAGE_AXES = 3


class Preprocessing(BaseModel):
    """Windows of a multi-channel series: `window` and `stride` in samples, `mean` and `std` one value a channel.

    Without `mean` and `std` every device standardises by those of its own training part, which it tells no one. With
    `targets` a label is numbers instead of a class, and that of a window is its last sample's.
    The first `1 - test_fraction` of each series trains; after a gap of `gap_windows` windows the rest tests, so that
    no sample, nor its close neighbour, is in both.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    kind: Literal["windows"] = "windows"
    channels: int = Field(ge=1, le=4096)
    window: int = Field(ge=1, le=1 << 20)
    stride: int = Field(ge=1, le=1 << 20)
    test_fraction: float = Field(default=0.25, ge=0, lt=1)
    gap_windows: int = Field(default=1, ge=0, le=1024)
    mean: tuple[FiniteFloat, ...] | None = None
    std: tuple[PositiveScale, ...] | None = None
    num_classes: int = Field(ge=1, le=1 << 16)
    targets: Targets | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _check_scale(self.mean, self.std, self.channels)
        _check_labels(self.num_classes, self.targets)
        return self


class ExamplePreprocessing(BaseModel):
    """Whole examples of `shape`, such as images `[channels, height, width]`; `mean` and `std` one value a channel.

    Without `mean` and `std` every device standardises by those of its own training part, which it tells no one. With a
    `vocabulary` examples are int64 tokens from 0 up to it, as they are. With `targets` a label is numbers instead of a
    class. Images are red, green, blue unless the `channel_order` is another. An example's name alone decides whether
    it tests, so that it stays on its side when others come or go.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    kind: Literal["examples"] = "examples"
    shape: tuple[Annotated[int, Field(ge=1, le=1 << 16)], ...] = Field(min_length=1, max_length=4)
    test_fraction: float = Field(default=0.25, ge=0, lt=1)
    mean: tuple[FiniteFloat, ...] | None = None
    std: tuple[PositiveScale, ...] | None = None
    num_classes: int = Field(ge=1, le=1 << 16)
    targets: Targets | None = None
    vocabulary: int | None = Field(default=None, ge=1, le=1 << 31)
    channel_order: Literal["bgr"] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        _check_scale(self.mean, self.std, self.shape[0])
        _check_labels(self.num_classes, self.targets)
        if self.vocabulary is not None and (self.mean is not None or self.channel_order is not None):
            raise ValueError("tokens have no mean, std or channel_order: leave them out")
        if self.channel_order is not None and (len(self.shape), self.shape[0]) != (IMAGE_AXES, len(COLOURS)):
            raise ValueError(f"channel_order is of images [3, height, width], not of {self.shape}")
        return self

    @property
    def dtype(self) -> np.dtype[np.float32] | np.dtype[np.int64]:
        """Of an example."""
        return np.dtype(np.float32) if self.vocabulary is None else np.dtype(np.int64)


def _check_scale(mean: tuple[float, ...] | None, std: tuple[float, ...] | None, channels: int) -> None:
    if (mean is None) != (std is None):
        raise ValueError("mean and std go together: give both, or neither to standardise on the device")
    if any(scale is not None and len(scale) != channels for scale in (mean, std)):
        raise ValueError(f"{channels} channels need as many values in mean and in std")


def _check_labels(num_classes: int, targets: Targets | None) -> None:
    if num_classes < 2 and targets is None:
        raise ValueError("num_classes: at least 2, unless labels are numbers: give targets")


def read_preprocessing(fields: Mapping[str, object]) -> Preprocessing | ExamplePreprocessing:
    """What a bundle declares; raises pydantic's `ValidationError`."""
    kind = ExamplePreprocessing if fields.get("kind") == "examples" else Preprocessing
    return kind.model_validate(dict(fields))


@dataclass(frozen=True, slots=True)
class Split:
    """Examples to train and to test on.

    `x` is float32 `[n, ...]`, such as `[n, channels, window]`, or int64 tokens; `y` int64 `[n]` classes, or float32
    `[n, ...]` numbers.
    """

    train_x: Inputs
    train_y: Labels
    test_x: Inputs
    test_y: Labels


def cut(
    series: Sequence[Series],
    labels: Sequence[Label],
    preprocessing: Preprocessing,
    names: Sequence[str] = (),
) -> Split:
    """Cut series of `[t, channels]`, one label each, into standardised windows; `names` (say, files) serve errors.

    Of labels that are numbers a series may have one a sample, `[t, ...]`. A series too short for a window is passed
    over. Raises `DataError` where a series or label is unusable, or no series gives a window to train on.
    """
    names = names or [f"series {number}" for number in range(len(series))]
    if not len(series) == len(labels) == len(names):
        raise DataError(f"{len(series)} series, {len(labels)} labels and {len(names)} names: give one of each a series")
    for name, samples in zip(names, series, strict=True):
        _check(name, samples, preprocessing)
    by_sample = [_sample_labels(*each, preprocessing) for each in zip(names, series, labels, strict=True)]
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
    train_y = [of[:end] for of, end in zip(by_sample, ends, strict=True)]
    test_y = [of[end + gap :] for of, end in zip(by_sample, ends, strict=True)]
    return Split(
        np.concatenate(train),
        _window_labels(train_y, preprocessing),
        np.concatenate(test),
        _window_labels(test_y, preprocessing),
    )


def split(
    series: Sequence[Series],
    labels: Sequence[Label],
    preprocessing: Preprocessing | ExamplePreprocessing,
    names: Sequence[str] = (),
) -> Split:
    """Recordings cut into windows, or whole examples told apart; raises `DataError` as `cut` does."""
    if isinstance(preprocessing, Preprocessing):
        return cut(series, labels, preprocessing, names)
    names = names or [f"example {number}" for number in range(len(series))]
    return Split(*tell_apart(series, labels, preprocessing, names))


def _check(name: str, samples: Series, preprocessing: Preprocessing) -> None:
    if samples.ndim != 2 or samples.shape[1] != preprocessing.channels:
        raise DataError(f"{name}: shape {samples.shape}, expected [samples, {preprocessing.channels} channels]")
    if samples.dtype.kind in "iu":
        raise DataError(f"{name}: {samples.dtype} values, this model takes measurements: write them as float32")
    finite = np.isfinite(samples)
    if not finite.all():
        row, channel = np.argwhere(~finite)[0]
        raise DataError(
            f"{name}: {samples[row, channel]} at row {row}, channel {channel}; remove the recording or fill the gap"
        )


def _scale(train_parts: Sequence[Series], preprocessing: Preprocessing) -> tuple[F32, F32]:
    """Mean and standard deviation a channel, float32 `[channels]`; a channel that never moves is left as it is."""
    if preprocessing.mean is not None and preprocessing.std is not None:
        return np.asarray(preprocessing.mean, np.float32), np.asarray(preprocessing.std, np.float32)
    samples = np.concatenate(train_parts).astype(np.float64)
    std = samples.std(0)
    return samples.mean(0).astype(np.float32), np.where(std > 0, std, 1).astype(np.float32)


def _windows(samples: Series, preprocessing: Preprocessing) -> F32:
    """Float32 `[n, channels, window]`; n is 0 where `samples` is shorter than a window."""
    if len(samples) < preprocessing.window:
        return np.empty((0, preprocessing.channels, preprocessing.window), np.float32)
    views = np.lib.stride_tricks.sliding_window_view(samples, preprocessing.window, axis=0)
    return np.ascontiguousarray(views[:: preprocessing.stride], np.float32)


def _sample_labels(name: str, samples: Series, label: Label, preprocessing: Preprocessing) -> Labels:
    """A label for each of the samples; one for all takes no room."""
    if preprocessing.targets is not None:
        return preprocessing.targets.each(label, len(samples), name)
    return np.broadcast_to(np.int64(class_number(label, preprocessing.num_classes, name)), len(samples))


def _window_labels(parts: Sequence[Labels], preprocessing: Preprocessing) -> Labels:
    """Of each window the label of its last sample."""
    labels: Labels = np.concatenate([part[preprocessing.window - 1 :: preprocessing.stride] for part in parts])
    return labels
