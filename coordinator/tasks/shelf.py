"""Where data sets are looked for, and what took long to make of them is kept."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from shared.errors import DataError

BESIDE_CHECKOUT = Path(__file__).resolve().parents[3] / "shared" / "datasets"


def shelf_folder() -> Path:
    """The folder of data sets: `$GRADSIEVE_DATA`, or where that is unset `shared/datasets` beside the checkout."""
    named = os.environ.get("GRADSIEVE_DATA")
    return Path(named) if named else BESIDE_CHECKOUT


def cache_folder() -> Path:
    """The user's folder for what can be had again."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gradsieve"


def find(data_set: str, file: str, source: str) -> Path:
    """The file of a data set, on the shelf or in the cache; raises `DataError` telling to get it from `source`."""
    places = [folder / data_set for folder in (shelf_folder(), cache_folder())]
    for place in places:
        if (place / file).is_file():
            return place / file
    raise DataError(
        f"{data_set}/{file} is neither in {places[0]} nor in {places[1]}: get it from {source}, put it into the folder "
        f"{data_set}, and set GRADSIEVE_DATA to the folder around that"
    )


def kept(name: str, origin: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The named arrays that `make` returns, from the cache when it made them before of the same content of `origin`.

    `name` must change with everything else that `make` depends on.
    """
    digest = hashlib.sha256(origin.read_bytes()).hexdigest()[:16]
    path = cache_folder() / f"{name}-{digest}.npz"
    if not path.is_file():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            partial = Path(folder) / path.name
            np.savez(partial, allow_pickle=False, **made)
            partial.replace(path)
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
