"""Whole examples told apart into those to train on and those to test on, and brought to the scale of the model."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from shared.errors import DataError
from shared.labels import Inputs, Label, Labels, Series, labels_of
from shared.layout import F32

if TYPE_CHECKING:
    from shared.preprocessing import ExamplePreprocessing


def tell_apart(
    examples: Sequence[Series], labels: Sequence[Label], preprocessing: "ExamplePreprocessing", names: Sequence[str]
) -> tuple[Inputs, Labels, Inputs, Labels]:
    """Inputs and labels to train on, then those to test on; `names` draw which is which, and serve errors.

    Raises `DataError` naming the example that is unusable, or where there is none to train on.
    """
    if not len(examples) == len(labels) == len(names):
        raise DataError(f"{len(examples)} examples, {len(labels)} labels and {len(names)} names: give one of each")
    for name, example in zip(names, examples, strict=True):
        _check(name, example, preprocessing)
    y = labels_of(labels, names, preprocessing.num_classes, preprocessing.targets)
    tests = np.asarray([_tests(name, preprocessing.test_fraction) for name in names], bool)
    if tests.all():
        raise DataError(f"no example to train on among {len(names)}: add some")
    train, test = _stacked(examples, ~tests, preprocessing), _stacked(examples, tests, preprocessing)
    if train.dtype == np.float32:
        mean, std = _scale(train, preprocessing)
        for part in (train, test):
            part -= mean
            part /= std
    return train, y[~tests], test, y[tests]


def _check(name: str, example: Series, preprocessing: "ExamplePreprocessing") -> None:
    if example.shape != preprocessing.shape:
        raise DataError(f"{name}: shape {example.shape}, expected {preprocessing.shape}: bring it to that shape")
    is_whole = example.dtype.kind in "iu"
    if preprocessing.vocabulary is None:
        if is_whole:
            raise DataError(f"{name}: {example.dtype} values, this model takes measurements: write them as float32")
        if not np.isfinite(example).all():
            raise DataError(f"{name}: it has values that are no finite numbers; remove the example")
    elif not is_whole:
        raise DataError(f"{name}: {example.dtype} values, this model takes tokens: write them as whole numbers")
    elif (unknown := (example < 0) | (example >= preprocessing.vocabulary)).any():
        place = ", ".join(map(str, np.argwhere(unknown)[0]))
        raise DataError(
            f"{name}: token {example[unknown][0]} at place {place}, the model knows 0 to "
            f"{preprocessing.vocabulary - 1}: use the vocabulary that it was exported with"
        )


def _tests(name: str, test_fraction: float) -> bool:
    """Is the example of this name one to test on: drawn by its name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") < test_fraction * 2.0**64


def _stacked(
    examples: Sequence[Series], chosen: npt.NDArray[np.bool_], preprocessing: "ExamplePreprocessing"
) -> Inputs:
    """The chosen examples as one array, filled in place: the examples themselves are still held beside it."""
    stacked: Inputs = np.empty((int(chosen.sum()), *preprocessing.shape), preprocessing.dtype)
    for row, number in enumerate(np.flatnonzero(chosen).tolist()):
        stacked[row] = examples[number]
    return stacked


def _scale(train: Inputs, preprocessing: "ExamplePreprocessing") -> tuple[F32, F32]:
    """Mean and standard deviation a channel, float32 `[channels, 1, ...]`; a channel that never varies is only moved.

    One channel after the other, so that float64 takes little room.
    """
    if preprocessing.mean is not None and preprocessing.std is not None:
        mean, std = np.asarray(preprocessing.mean), np.asarray(preprocessing.std)
    else:
        channels = np.moveaxis(train, 1, 0)
        mean = np.asarray([channel.mean(dtype=np.float64) for channel in channels])
        std = np.asarray([channel.std(dtype=np.float64) for channel in channels])
    ones = (-1, *[1] * (train.ndim - 2))
    return mean.astype(np.float32).reshape(ones), np.where(std > 0, std, 1).astype(np.float32).reshape(ones)
