"""The signed archive that teaches a device a task: training graphs, layout, preprocessing, limits.

    b"gsb" | u8 version | varint manifest length | manifest, JSON | each file: varint length | zlib stream

The signature covers the manifest's canonical JSON, and the manifest holds size and SHA-256 of every file. Weights are
not inside: they travel as the model.
"""

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from shared.errors import BundleError, FrameError, SignatureError
from shared.messages import Digest
from shared.varint import Reader, write_varint

if TYPE_CHECKING:  # a trainer reads bundles without loading a cryptography library, 6 MB of a small board's memory
    from shared.signing import SigningKey, VerifyKey

MAGIC = b"gsb\x01"
LARGEST_MANIFEST_BYTES = 1 << 20
LARGEST_FILE_BYTES = 1 << 31
LARGEST_WEIGHT = 1e6
_SIGNED_PURPOSE = b"gradsieve bundle\0"

BUNDLE_FILES = ("train.onnx", "eval.onnx", "predict.onnx")

FileName = Annotated[str, Field(pattern=r"^(train|eval|predict)\.onnx$")]
Dimension = Annotated[int, Field(ge=1, le=1 << 31)]
Weight = Annotated[float, Field(ge=-LARGEST_WEIGHT, le=LARGEST_WEIGHT)]
LayoutRow = tuple[
    Annotated[str, Field(min_length=1, max_length=200)],
    Annotated[tuple[Dimension, ...], Field(max_length=8)],
    Literal["weight", "bias", "norm", "buffer", "frozen"],
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)


class FileEntry(_Strict):
    """Digest and length of one file, uncompressed."""

    sha256: Digest
    size: Annotated[int, Field(ge=1, le=LARGEST_FILE_BYTES)]


class Growth(_Strict):
    """First weights by seed: for each tensor of the layout its centre, and how far values lie to both sides of it."""

    seed: Annotated[int, Field(ge=0, le=1 << 53)]
    spreads: Annotated[tuple[tuple[Weight, Annotated[Weight, Field(ge=0)]], ...], Field(min_length=1, max_length=4096)]


class BundleManifest(_Strict):
    """What is in a bundle and what it needs. `signer` and `signature` are empty until `sign_bundle`.

    `input_shape` is without the batch; `estimated_peak_bytes` is the trainer process's resident memory at its peak, but
    for the local data. `preprocessing` and `layout` are the JSON forms of `shared.preprocessing` and `shared.layout`,
    which read them where arrays are at hand. Where there is a `growth`, devices make the run's first model by it.
    """

    format_version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")]
    version: Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$")]
    task: Literal["classification", "regression"]
    input_shape: Annotated[tuple[Dimension, ...], Field(min_length=1, max_length=8)]
    num_classes: Annotated[int, Field(ge=1, le=1 << 20)]
    preprocessing: dict[str, JsonValue]
    layout: Annotated[tuple[LayoutRow, ...], Field(min_length=1, max_length=4096)]
    files: Annotated[dict[FileName, FileEntry], Field(min_length=1)]
    growth: Growth | None = None
    minimum_onnxruntime: Annotated[str, Field(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3}){1,2}$")] = "1.19.0"
    estimated_peak_bytes: Annotated[int, Field(ge=0, le=1 << 50)]
    signer: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    signature: Annotated[str, Field(pattern=r"^([0-9a-f]{128})?$")] = ""

    @model_validator(mode="after")
    def _growth_is_of_the_layout(self) -> Self:
        if self.growth is not None and len(self.growth.spreads) != len(self.layout):
            raise ValueError(f"{len(self.growth.spreads)} spreads of first weights for {len(self.layout)} tensors")
        return self

    def needed_bytes(self, data_bytes: int) -> int:
        """What a trainer is likely to have resident at most, with `data_bytes` of recordings, as they are held there.

        These are held once as they are, and while they are cut twice as windows, which may overlap.
        """
        window, stride = self.preprocessing.get("window"), self.preprocessing.get("stride")
        overlap = window / stride if isinstance(window, int) and isinstance(stride, int) and stride > 0 else 1.0
        return self.estimated_peak_bytes + round(data_bytes * (1 + 2 * overlap))


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle: manifest, and the bytes of its files by name."""

    manifest: BundleManifest
    files: Mapping[str, bytes]


def file_entries(files: Mapping[str, bytes]) -> dict[str, FileEntry]:
    """What a manifest says of `files`."""
    return {
        name: FileEntry(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        for name, content in files.items()
    }


def sign_bundle(manifest: BundleManifest, key: "SigningKey") -> BundleManifest:
    """The manifest with signer and signature."""
    named = manifest.model_copy(update={"signer": key.verify_key.hex, "signature": ""})
    return named.model_copy(update={"signature": key.sign(_covered(named)).hex()})


def pack_bundle(manifest: BundleManifest, files: Mapping[str, bytes]) -> bytes:
    """The archive of a signed manifest and the files that it names; the same bytes for the same content."""
    if file_entries(files) != manifest.files:
        raise BundleError(f"bundle {manifest.name}: the files are not those of its manifest: build the manifest anew")
    head = manifest.model_dump_json(exclude_none=True).encode()
    parts = [MAGIC, write_varint(len(head)), head]
    for name in _order(manifest):
        packed = zlib.compress(files[name], 9)
        parts += (write_varint(len(packed)), packed)
    return b"".join(parts)


def open_bundle(
    data: bytes,
    trusted: Sequence["VerifyKey"],
    largest_bytes: int,
    available_memory_bytes: int | None,
    data_bytes: int = 0,
) -> Bundle:
    """The bundle in `data`, signed by one of the `trusted` keys.

    `largest_bytes` bounds the archive, and its files unpacked; `available_memory_bytes` what training it may take on
    this device, whose recordings are `data_bytes` large (None: it is not to be trained here). Raises `SignatureError`
    when it is unsigned, its manifest was altered or its signer is not trusted, else `BundleError`; nothing is unpacked
    before the signature was verified.
    """
    if len(data) > largest_bytes:
        raise BundleError(f"bundle of {len(data)} bytes: at most {largest_bytes} are accepted")
    with _damage_named():
        reader = Reader(data, "bundle")
        manifest = _read_manifest(reader)
        _check_signature(manifest, trusted)
        _check_size(manifest, largest_bytes)
        if available_memory_bytes is not None:
            check_memory(manifest.name, manifest.needed_bytes(data_bytes), available_memory_bytes)
        return _read_files(reader, manifest)


def read_kept_bundle(data: bytes) -> Bundle:
    """The bundle in an archive that was kept after `open_bundle` accepted it; raises `BundleError` if it is damaged."""
    with _damage_named():
        reader = Reader(data, "bundle")
        return _read_files(reader, _read_manifest(reader))


def read_manifest(data: bytes) -> BundleManifest:
    """What an archive says of itself, not verified; nothing is unpacked. Raises `BundleError`."""
    with _damage_named():
        return _read_manifest(Reader(data, "bundle"))


@contextmanager
def _damage_named() -> Iterator[None]:
    try:
        yield
    except FrameError as error:
        raise BundleError(f"{error}: the archive is damaged: fetch it again") from None


def _read_files(reader: Reader, manifest: BundleManifest) -> Bundle:
    files = {name: _unpack_file(reader, name, manifest) for name in _order(manifest)}
    reader.done()
    return Bundle(manifest, files)


def _read_manifest(reader: Reader) -> BundleManifest:
    if reader.take(len(MAGIC), "magic") != MAGIC:
        raise BundleError("not a gradsieve bundle of version 1")
    text = reader.take(reader.varint(LARGEST_MANIFEST_BYTES, "manifest length"), "manifest")
    try:
        return BundleManifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part)[:40] for part in first["loc"]) or "manifest"
        raise BundleError(f"bundle manifest: {field}: {first['msg']}") from None


def _check_signature(manifest: BundleManifest, trusted: Sequence["VerifyKey"]) -> None:
    name = f"bundle {manifest.name} {manifest.version}"
    if not manifest.signer or not manifest.signature:
        raise SignatureError(f"{name}: not signed")
    key = next((key for key in trusted if key.hex == manifest.signer), None)
    if key is None:
        raise SignatureError(f"{name}: signed by {manifest.signer[:16]}…, which is not among the trusted keys")
    if not key.verifies(bytes.fromhex(manifest.signature), _covered(manifest)):
        raise SignatureError(f"{name}: altered after it was signed")


def check_memory(name: str, needed_bytes: int, available_bytes: int) -> None:
    """Raise `BundleError` where training the bundle `name` needs more memory than there is."""
    if needed_bytes > available_bytes:
        raise BundleError(
            f"bundle {name}: training needs about {needed_bytes} bytes of memory, {available_bytes} are available: "
            "use a smaller model, smaller batches or a larger device"
        )


def _check_size(manifest: BundleManifest, largest_bytes: int) -> None:
    unpacked_bytes = sum(entry.size for entry in manifest.files.values())
    if unpacked_bytes > largest_bytes:
        raise BundleError(f"bundle {manifest.name}: {unpacked_bytes} bytes unpacked: at most {largest_bytes}")


def _unpack_file(reader: Reader, name: str, manifest: BundleManifest) -> bytes:
    entry = manifest.files[name]
    packed = reader.take(reader.varint(LARGEST_FILE_BYTES, f"{name} length"), name)
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(packed, entry.size + 1)
    except zlib.error as error:
        raise BundleError(f"bundle {manifest.name}: {name}: {error}") from None
    if len(content) != entry.size or not stream.eof or stream.unused_data:
        raise BundleError(f"bundle {manifest.name}: {name}: does not unpack to the {entry.size} bytes it declares")
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise BundleError(f"bundle {manifest.name}: {name}: altered: its digest is not the manifest's")
    return content


def _order(manifest: BundleManifest) -> list[str]:
    return [name for name in BUNDLE_FILES if name in manifest.files]


def _covered(manifest: BundleManifest) -> bytes:
    fields = manifest.model_dump(mode="json", exclude={"signature"}, exclude_none=True)
    return _SIGNED_PURPOSE + json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
