"""The sieve layer by layer: which blocks a round's plan takes for key, sparse or dead. Pure."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from shared.bundle import LARGEST_MANIFEST_BYTES, MAGIC, BundleManifest
from shared.compression.grouping import Grouping
from shared.compression.plan import Plan
from shared.compression.prior import split_lengths
from shared.errors import BundleError
from shared.layout import Layout
from shared.varint import Reader


@dataclass(frozen=True)
class Shares:
    """Shares of each tensor's blocks, float64 `[tensors]` each; the three add up to 1."""

    key: npt.NDArray[np.float64]
    sparse: npt.NDArray[np.float64]
    dead: npt.NDArray[np.float64]


def read_layout(bundle: bytes) -> Layout:
    """The layout that the coordinator's own bundle names; nothing is verified or unpacked.

    Raises `FrameError`, `BundleError` or `MessageError` when it is damaged.
    """
    reader = Reader(bundle, "bundle")
    reader.take(len(MAGIC), "magic")
    manifest = reader.take(reader.varint(LARGEST_MANIFEST_BYTES, "manifest length"), "manifest")
    try:
        rows = BundleManifest.model_validate_json(manifest).layout
    except ValidationError as error:
        raise BundleError(f"bundle manifest: {error.error_count()} fields are wrong: build the bundle anew") from error
    return Layout.of([(name, shape, role) for name, shape, role in rows])


def shares(plan: Plan, layout: Layout, values: float) -> Shares | None:
    """How `plan` divides the blocks of each tensor when an update sends about `values` values; None without a prior.

    Blocks of class 0 are dead. Of the others the densest are key, up to the class where the positions that the plan
    predicts take the fewest bits in two regions: the boundary that an encoder finds for an update that is as predicted.
    """
    classes = plan.density_classes
    if classes is None:
        return None
    least = _least_key_class(Grouping.of(classes, layout), values)
    tensors = len(layout.tensors)
    blocks = np.bincount(layout.block_tensor, minlength=tensors)
    key = np.bincount(layout.block_tensor, classes >= least, minlength=tensors) / blocks
    dead = np.bincount(layout.block_tensor, classes == 0, minlength=tensors) / blocks
    return Shares(key, np.clip(1.0 - key - dead, 0.0, 1.0), dead)


def _least_key_class(grouping: Grouping, values: float) -> int:
    live = grouping.classes > 0
    if np.count_nonzero(live) <= 1:
        return max(int(grouping.classes[0]), 1)
    extents = np.diff(grouping.bounds).astype(np.float64)
    predicted = np.where(live, extents * 2.0**grouping.classes, 0.0)
    counts = predicted * (values / predicted.sum())
    split = split_lengths(np.cumsum(extents), np.cumsum(np.minimum(counts, extents)))[: np.count_nonzero(live)]
    return int(grouping.classes[int(split.argmin())])
