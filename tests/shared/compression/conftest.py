"""Layouts and updates that the compression tests share."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from shared.layout import F32, Layout

Update = tuple[F32, npt.NDArray[np.float64]]


@pytest.fixture(scope="session")
def watch_layout() -> Layout:
    return Layout.of(
        [
            ("conv1.weight", (32, 6, 5), "weight"),
            ("conv1.bias", (32,), "bias"),
            ("conv2.weight", (64, 32, 5), "weight"),
            ("conv2.bias", (64,), "bias"),
            ("conv3.weight", (64, 64, 3), "weight"),
            ("conv3.bias", (64,), "bias"),
            ("linear.weight", (7, 64), "weight"),
            ("linear.bias", (7,), "bias"),
        ]
    )


@pytest.fixture(scope="session")
def small_layout() -> Layout:
    return Layout.of([("a.weight", (8, 64), "weight"), ("a.bias", (8,), "bias"), ("b.weight", (3, 130), "weight")])


@pytest.fixture(scope="session")
def heavy_tailed() -> Callable[[Layout, int], Update]:
    """Student-t values whose blocks have log-normal scales, and for each block the share of |values| above 1."""

    def make(layout: Layout, seed: int) -> Update:
        random = np.random.default_rng(seed)
        scales = np.exp(random.normal(0.0, 0.8, layout.num_blocks)) * 0.25
        sizes = np.diff(layout.block_starts)
        update = random.standard_t(4, layout.size) * np.repeat(scales, sizes)
        reference = np.sort(np.abs(random.standard_t(4, 100_000)))
        densities = 1.0 - np.searchsorted(reference, 1.0 / scales) / len(reference)
        return update.astype(np.float32), densities

    return make
