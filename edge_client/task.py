"""A bundle made ready for work: its graphs, its layout, and the local data cut the way it says."""

import hashlib
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Self

import onnxruntime
from pydantic import ValidationError

from edge_client.data import DataSource, LiveSource, Recordings
from edge_client.graph_session import check_version
from edge_client.runtime import OnnxRuntime, Runtime
from shared.bundle import Bundle, read_kept_bundle
from shared.errors import BundleError
from shared.labels import Series
from shared.layout import Layout
from shared.preprocessing import ExamplePreprocessing, Preprocessing, Split, read_preprocessing, split


class Task:
    """What one bundle asks for on this device; sessions and data are loaded when first needed, and kept.

    Raises `BundleError` where the bundle cannot be used here, and `split` raises `DataError`.
    """

    def __init__(self, bundle: Bundle, source: DataSource) -> None:
        manifest = bundle.manifest
        self._source, self._live = source, _live(source)
        check_version(onnxruntime.__version__, manifest.minimum_onnxruntime)
        self._split: tuple[int, Split] | None = None
        try:
            self._preprocessing = read_preprocessing(manifest.preprocessing)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise BundleError(f"bundle {manifest.name}: preprocessing: {first['msg']}: export it again") from None
        if not {"train.onnx", "eval.onnx"} <= bundle.files.keys():
            raise BundleError(f"bundle {manifest.name}: train.onnx or eval.onnx is not in it: export it again")
        self.layout, self.growth = Layout.of(list(manifest.layout)), manifest.growth
        self.runtime: Runtime = OnnxRuntime(bundle.files["train.onnx"], bundle.files["eval.onnx"], self.layout)

    def with_source(self, source: DataSource) -> Self:
        """The same task on other data: sessions are shared."""
        other = copy(self)
        other._source, other._live, other._split = source, _live(source), None
        return other

    def with_runtime(self, runtime: Runtime) -> Self:
        """The same task, trained otherwise than by the bundle's graphs."""
        other = copy(self)
        other.runtime = runtime
        return other

    def with_split(self, split: Split) -> Self:
        """The same task on these very examples: sessions are shared."""
        other = object.__new__(type(self))  # as `copy` does it, which takes long to find out how
        other.__dict__ |= self.__dict__ | {"_split": (0, split)}
        return other

    @property
    def split(self) -> Split:
        """The examples to train and to test on; of a source that changes, as it is now."""
        revision = self._live.revision() if self._live else 0
        if self._split is None or self._split[0] != revision:
            self._split = None  # two of them may be more than there is memory for
            self._split = revision, _split(self._source.load(), self._preprocessing)
        return self._split[1]


def _live(source: DataSource) -> LiveSource | None:
    """The source, where it changes; asking what a protocol asks takes long, so it is asked once."""
    return source if isinstance(source, LiveSource) else None


def _split(found: Recordings, preprocessing: Preprocessing | ExamplePreprocessing) -> Split:
    series: Sequence[Series] = found.series
    if isinstance(preprocessing, ExamplePreprocessing):
        found = found.row_by_row()
        series = found.series
        if preprocessing.channel_order == "bgr" and found.channel_order == "rgb":
            series = [image[::-1] for image in series]
    return split(series, found.labels, preprocessing, found.names)


def read_archive(path: Path) -> Bundle:
    """The bundle in a file named by its digest; the agent verified its signature before it kept it under that name."""
    try:
        archive = path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"bundle {path.stem[:16]}…: its file is gone: fetch it again") from None
    if hashlib.sha256(archive).hexdigest() != path.stem:
        raise BundleError(f"bundle {path.stem[:16]}…: its file was altered: fetch it again")
    return read_kept_bundle(archive)
