"""A bundle made ready for work: its graphs, its layout, and the local data cut the way it says."""

import hashlib
from functools import cached_property
from pathlib import Path

import onnxruntime
from pydantic import ValidationError

from edge_client.data import DataSource
from edge_client.graph_session import check_version
from edge_client.runtime import OnnxRuntime, Runtime
from shared.bundle import Bundle, read_kept_bundle
from shared.errors import BundleError
from shared.layout import Layout
from shared.preprocessing import Preprocessing, Split, cut


class Task:
    """What one bundle asks for on this device; sessions and data are loaded when first needed, and kept.

    Raises `BundleError` where the bundle cannot be used here, and `split` raises `DataError`.
    """

    def __init__(self, bundle: Bundle, source: DataSource) -> None:
        manifest, self._source = bundle.manifest, source
        check_version(onnxruntime.__version__, manifest.minimum_onnxruntime)
        try:
            self._preprocessing = Preprocessing.model_validate(manifest.preprocessing)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise BundleError(f"bundle {manifest.name}: preprocessing: {first['msg']}: export it again") from None
        if not {"train.onnx", "eval.onnx"} <= bundle.files.keys():
            raise BundleError(f"bundle {manifest.name}: train.onnx or eval.onnx is not in it: export it again")
        self.layout, self.growth = Layout.of(list(manifest.layout)), manifest.growth
        self.runtime: Runtime = OnnxRuntime(bundle.files["train.onnx"], bundle.files["eval.onnx"], self.layout)

    @cached_property
    def split(self) -> Split:
        """The windows to train and to test on."""
        recordings = self._source.load()
        return cut(recordings.series, recordings.labels, self._preprocessing, recordings.names)


def read_archive(path: Path) -> Bundle:
    """The bundle in a file named by its digest; the agent verified its signature before it kept it under that name."""
    try:
        archive = path.read_bytes()
    except FileNotFoundError:
        raise BundleError(f"bundle {path.stem[:16]}…: its file is gone: fetch it again") from None
    if hashlib.sha256(archive).hexdigest() != path.stem:
        raise BundleError(f"bundle {path.stem[:16]}…: its file was altered: fetch it again")
    return read_kept_bundle(archive)
