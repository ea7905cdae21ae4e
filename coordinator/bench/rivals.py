"""General compressors of others behind the codec seam, for comparisons alone: SZ3, and the DeepCABAC of NNCodec.

X. Liang et al., SZ3: A Modular Framework for Composing Prediction-Based Error-Bounded Lossy Compressors, IEEE
Transactions on Big Data, 2023. S. Wiedemann et al., DeepCABAC: A Universal Compression Algorithm for Deep Neural
Networks, IEEE Journal of Selected Topics in Signal Processing, 2020; here the coder of its standard, ISO/IEC 15938-17.

Both decoders are C++ that trusts its input, so that no frame from a device may ever reach them: neither codec is in the
registry. Both want the usual residual.
"""

import math
import struct
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.compression.codec import Codec, Encoded, SparseUpdate
from shared.compression.histogram import magnitude_bits
from shared.compression.plan import Plan
from shared.errors import DecodeError, SettingsError
from shared.layout import F32, Layout

SZ3_WIRE_ID = 200
DEEP_CABAC_WIRE_ID = 201

INSTALL = {
    "pysz": "pip install 'gradsieve[rivals]'",
    "nncodec": "pip install --no-deps nncodec, which builds it; what it asks for besides, its coder does not need",
}

WIDEST_RANGE = 1 << 20
"""The finest step or error bound is the largest magnitude over this, the coarsest twice that magnitude."""

BISECTIONS = 14


class Sz3Codec:
    """SZ3 without prediction, as neighbouring values of an update say nothing of each other; a header of 90 bytes.

    Its absolute error bound is the smallest whose frame fits the budget.
    """

    name = "sz3"
    wire_id = SZ3_WIRE_ID

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """At most `plan.budget_bytes`; a byte, and nothing delivered, where no bound fits. Raises `ValueError`."""
        pysz = _module("pysz", "pysz")

        def compress(bound: float) -> bytes:
            config = pysz.szConfig()
            config.errorBoundMode = pysz.szErrorBoundMode.ABS
            config.cmprAlgo = pysz.szAlgorithm.NOPRED
            config.absErrorBound = bound
            compressed, _ = pysz.sz.compress(np.ascontiguousarray(update).reshape(-1), config)
            return bytes([SZ3_WIRE_ID]) + bytes(compressed)

        return _finest(self, compress, update, layout, plan)

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """What `encode` delivered. Never give it a frame that another process made."""
        if len(frame) < 2 or frame[0] != SZ3_WIRE_ID:
            return _nothing(frame, self, layout)
        content = np.frombuffer(frame, np.uint8, offset=1).copy()
        values, _ = _module("pysz", "pysz").sz.decompress(content, np.float32, (layout.size,))
        return _sent(values, layout)


class DeepCabacCodec:
    """Uniform levels by rate and distortion, then context-adaptive arithmetic coding, tensor after tensor.

    The contexts are carried on from tensor to tensor, which the standard does not do: the shorter frame. The step is
    the smallest whose frame fits the budget; a frame has it as float32.
    """

    name = "deepcabac"
    wire_id = DEEP_CABAC_WIRE_ID

    def encode(self, update: F32, layout: Layout, plan: Plan) -> Encoded:
        """At most `plan.budget_bytes`; a byte, and nothing delivered, where no step fits. Raises `ValueError`."""
        flat = np.ascontiguousarray(update).reshape(-1)

        def compress(step: float) -> bytes:
            stepped = struct.pack("<f", step)
            return bytes([DEEP_CABAC_WIRE_ID]) + stepped + _cabac_encode(flat / np.frombuffer(stepped, "<f4"), layout)

        return _finest(self, compress, update, layout, plan)

    def decode(self, frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        """What `encode` delivered. Never give it a frame that another process made."""
        if len(frame) < 6 or frame[0] != DEEP_CABAC_WIRE_ID:
            return _nothing(frame, self, layout)
        (step,) = struct.unpack("<f", frame[1:5])
        return _sent(_cabac_decode(frame[5:], layout).astype(np.float32) * np.float32(step), layout)


RIVALS: tuple[Codec, ...] = (Sz3Codec(), DeepCabacCodec())

CABAC_CONTEXTS = 11
OPTIMISED_CONTEXTS = 1
UNIFORM, ROW_MAJOR, EDITION_2, NO_PARENT = 0, 0, 1, 0
RATE_WEIGHT = 1.0
"""Of the encoder's own scale, 0 for plain rounding; measured on Student-t updates, 1 delivers most for its bytes."""


def _cabac_encode(steps: F32, layout: Layout) -> bytes:
    cabac = _module("nncodec.extensions.deepCABAC", "nncodec")
    encoder = cabac.Encoder()
    encoder.initCtxModels(CABAC_CONTEXTS, OPTIMISED_CONTEXTS)
    for rows in _matrices(steps, layout):
        levels, quantiser = np.zeros(rows.shape, np.int32), cabac.Encoder()
        quantiser.initCtxModels(CABAC_CONTEXTS - 1, 0)
        # Quantisation parameter 0 at density 2 is a step of 1.
        quantiser.quantLayer(rows, levels, UNIFORM, 2, 0, RATE_WEIGHT, CABAC_CONTEXTS - 1, ROW_MAJOR, EDITION_2)
        skipped = (~levels.any(axis=1)).astype(np.int32)
        encoder.encodeLayer(levels, UNIFORM, ROW_MAJOR, EDITION_2, NO_PARENT, 1, skipped, *_no_history(cabac), 0, 0)
    return bytes(encoder.finish().tobytes())


def _cabac_decode(content: bytes, layout: Layout) -> npt.NDArray[np.int32]:
    cabac = _module("nncodec.extensions.deepCABAC", "nncodec")
    decoder = cabac.Decoder()
    stream = np.frombuffer(content, np.uint8).copy()
    decoder.setStream(stream)
    decoder.initCtxModels(CABAC_CONTEXTS)
    found = []
    for rows in _matrices(np.zeros(layout.size, np.float32), layout):
        levels = np.zeros(rows.shape, np.int32)
        decoder.decodeLayer(levels, UNIFORM, ROW_MAJOR, EDITION_2, NO_PARENT, *_no_history(cabac), 0, 0)
        found.append(levels.reshape(-1))
    return np.concatenate(found)


def _matrices(values: F32, layout: Layout) -> list[F32]:
    """Every tensor as rows, so that one without a value is skipped by a bit."""
    return [
        values[start : start + tensor.size].reshape(tensor.shape[0] if len(tensor.shape) > 1 else 1, -1)
        for tensor, start in zip(layout.tensors, layout.offsets, strict=False)
    ]


def _no_history(cabac: Any) -> tuple[Any, npt.NDArray[np.int8]]:
    return cabac.HdspMode.AlwaysOff, np.zeros(2, np.int8)


def _finest(codec: Codec, compress: Callable[[float], bytes], update: F32, layout: Layout, plan: Plan) -> Encoded:
    """The frame of the smallest step, on a logarithmic scale, that keeps to the budget."""
    largest = float(magnitude_bits(update, layout).max().view(np.float32))
    best = bytes([codec.wire_id])
    low, high = math.log2(largest / WIDEST_RANGE or 1.0), math.log2(2 * largest or 1.0)
    for _ in range(BISECTIONS if largest else 0):
        middle = (low + high) / 2
        frame = compress(2.0**middle)
        if len(frame) <= plan.budget_bytes:
            best, high = frame, middle
        else:
            low = middle
    delivered = codec.decode(best, layout, plan)
    return Encoded(best, delivered, float(np.abs(delivered.values).min(initial=math.inf)) if best[1:] else 0.0)


def _sent(values: F32, layout: Layout) -> SparseUpdate:
    indices = np.flatnonzero(values)
    return SparseUpdate(layout.size, indices, values[indices])


def _nothing(frame: bytes, codec: Codec, layout: Layout) -> SparseUpdate:
    if frame != bytes([codec.wire_id]):
        raise DecodeError(f"{len(frame)} bytes are no frame of {codec.name}")
    return SparseUpdate.nothing(layout.size)


def _module(name: str, package: str) -> Any:
    """The only place where a rival is imported, as it may be missing."""
    try:
        return import_module(name)
    except ImportError as error:
        raise SettingsError(f"{package} is not installed, which this comparison needs: {INSTALL[package]}") from error
