"""The format that MNIST and sets of its shape come in: gzipped idx files."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from shared.errors import DataError

BYTES_OF_UNSIGNED = 0x08


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The uint8 array of a gzipped idx file; raises `DataError` unless it has exactly this shape."""
    header = bytes([0, 0, BYTES_OF_UNSIGNED, len(shape)]) + b"".join(size.to_bytes(4, "big") for size in shape)
    expected = len(header) + int(np.prod(shape))
    try:
        with gzip.open(path) as file:
            content = file.read(expected + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a whole gzip file ({error}): get it anew") from error
    if not content.startswith(header) or len(content) != expected:
        raise DataError(f"{path} does not hold {' x '.join(map(str, shape))} unsigned bytes: get it anew")
    return np.frombuffer(content, np.uint8, offset=len(header)).reshape(shape)
