"""What `gradsieve export` leaves and a run begins with: a signed bundle, and the initial weights beside it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from shared.bundle import BundleManifest, open_bundle
from shared.errors import BundleError, MessageError, RunError, SignatureError
from shared.layout import F32, Layout
from shared.preprocessing import read_preprocessing
from shared.signing import VerifyKey

LARGEST_BUNDLE_BYTES = 1 << 30
SUFFIX = ".gsb"


@dataclass(frozen=True, slots=True)
class ExportedModel:
    """The two files; `bundle` ends in `.gsb`."""

    bundle: Path

    @property
    def weights(self) -> Path:
        """The initial weights, safetensors by tensor name."""
        return self.bundle.with_suffix(".safetensors")

    def write(self, archive: bytes, layout: Layout, weights: F32) -> None:
        """Write both; raises `RunError` where the bundle's name has another ending."""
        if self.bundle.suffix != SUFFIX:
            raise RunError(f"{self.bundle}: a bundle's name ends in {SUFFIX}: choose another --out")
        self.bundle.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: np.ascontiguousarray(part) for name, part in layout.split(weights).items()}, self.weights)
        self.bundle.write_bytes(archive)

    def read(self, key: VerifyKey) -> tuple[bytes, F32]:
        """The archive and the weights float32 `[size]`, for a run whose rounds `key` signs.

        Raises `RunError` naming the file where one is missing, damaged or does not fit the other, where the bundle was
        signed by another key, and where no device can cut inputs for it.
        """
        try:
            archive = self.bundle.read_bytes()
            manifest = open_bundle(archive, [key], LARGEST_BUNDLE_BYTES, available_memory_bytes=None).manifest
            self._check_usable(manifest)
            weights = Layout.of(list(manifest.layout)).join(load(self.weights.read_bytes()))
        except OSError as error:
            raise RunError(
                f"{error.filename}: {error.strerror}: export the model again with gradsieve export"
            ) from None
        except (BundleError, MessageError, SafetensorError, SignatureError) as error:
            raise RunError(f"{self.bundle}: {error}: export the model again with gradsieve export") from None
        return archive, weights

    def _check_usable(self, manifest: BundleManifest) -> None:
        """Raise `RunError` where the bundle does not say how recordings become inputs: earlier exports left it out."""
        try:
            read_preprocessing(manifest.preprocessing)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise RunError(
                f"{self.bundle}: it does not say how recordings become inputs ({first['msg']}): "
                "export the model again with gradsieve export"
            ) from None
