import hashlib
import json
import zlib
from pathlib import Path

import pytest
from pydantic import JsonValue, ValidationError

from shared.bundle import (
    BUNDLE_FILES,
    MAGIC,
    BundleManifest,
    FileEntry,
    file_entries,
    open_bundle,
    pack_bundle,
    read_kept_bundle,
    sign_bundle,
)
from shared.errors import BundleError, SignatureError
from shared.signing import SigningKey
from shared.varint import write_varint

GOLDEN = (Path(__file__).parents[1] / "golden" / "bundle.gsb").read_bytes()
KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(32))
TRUSTED = [OTHER.verify_key, KEY.verify_key]
FILES = {name: name.encode() * 40 for name in BUNDLE_FILES}
LARGEST_BYTES = 1 << 20
MANIFEST = BundleManifest(
    name="watch-gestures",
    version="1.0.0",
    task="classification",
    input_shape=(6, 128),
    num_classes=5,
    preprocessing={"kind": "windows", "mean": [0.1, 1e-05], "scale": None},
    layout=(("dense.weight", (5, 768), "weight"), ("dense.bias", (5,), "bias")),
    files=file_entries(FILES),
    estimated_peak_bytes=80_000_000,
)
SIGNED = sign_bundle(MANIFEST, KEY)


def archive(manifest: dict[str, object] | BundleManifest, *streams: bytes) -> bytes:
    """An archive as a forger would write it: nothing is checked."""
    text = json.dumps(manifest) if isinstance(manifest, dict) else manifest.model_dump_json()
    parts = [MAGIC, write_varint(len(text.encode())), text.encode()]
    for stream in streams or tuple(zlib.compress(content) for content in FILES.values()):
        parts += (write_varint(len(stream)), stream)
    return b"".join(parts)


def signed_with(**changes: object) -> BundleManifest:
    return sign_bundle(MANIFEST.model_copy(update=changes), KEY)


def unpack(data: bytes, largest_bytes: int = LARGEST_BYTES, available_memory_bytes: int | None = None) -> None:
    open_bundle(data, TRUSTED, largest_bytes, available_memory_bytes)


def test_bundle_comes_back() -> None:
    bundle = open_bundle(pack_bundle(SIGNED, FILES), TRUSTED, LARGEST_BYTES, 80_000_000)
    assert bundle.manifest == SIGNED
    assert bundle.files == FILES


def test_golden_bundle_opens() -> None:
    bundle = open_bundle(GOLDEN, TRUSTED, LARGEST_BYTES, None)
    assert bundle.manifest == SIGNED
    assert bundle.files == FILES


def test_kept_bundle_is_read_without_keys_but_never_damaged() -> None:
    assert read_kept_bundle(GOLDEN) == open_bundle(GOLDEN, TRUSTED, LARGEST_BYTES, None)
    for damaged in (GOLDEN[:-1], GOLDEN[:9], GOLDEN + b"x", b""):
        with pytest.raises(BundleError, match=r"fetch it again|does not unpack"):
            read_kept_bundle(damaged)


def test_same_content_gives_the_same_archive() -> None:
    assert pack_bundle(SIGNED, FILES) == pack_bundle(SIGNED, dict(reversed(FILES.items())))


def test_truncation_at_every_offset_is_refused() -> None:
    for length in range(len(GOLDEN)):
        with pytest.raises((BundleError, SignatureError)):
            unpack(GOLDEN[:length])


@pytest.mark.parametrize("bit", range(8))
def test_no_altered_byte_changes_what_is_accepted(bit: int) -> None:
    accepted = 0
    for place in range(len(GOLDEN)):
        altered = bytearray(GOLDEN)
        altered[place] ^= 1 << bit
        try:
            bundle = open_bundle(bytes(altered), TRUSTED, LARGEST_BYTES, None)
        except (BundleError, SignatureError):
            continue
        accepted += 1  # another spelling of the same: `1E-05`, or the unused last bits of a stream
        assert (bundle.manifest, bundle.files) == (SIGNED, FILES)
    assert accepted <= len(FILES) + 1


def test_bytes_after_the_last_file_are_refused() -> None:
    with pytest.raises(BundleError, match="too many"):
        unpack(GOLDEN + b"\0")


def test_unsigned_bundle_is_refused() -> None:
    with pytest.raises(SignatureError, match="not signed"):
        unpack(archive(MANIFEST))


def test_signer_who_is_not_trusted_is_named() -> None:
    stranger = SigningKey(b"\x07" * 32)
    with pytest.raises(SignatureError, match=stranger.verify_key.hex[:16]):
        unpack(archive(sign_bundle(MANIFEST, stranger)))


def test_without_a_trusted_key_nothing_is_accepted() -> None:
    with pytest.raises(SignatureError, match="trusted"):
        open_bundle(GOLDEN, [], LARGEST_BYTES, None)


@pytest.mark.parametrize("change", [{"num_classes": 6}, {"preprocessing": {}}, {"signer": OTHER.verify_key.hex}])
def test_manifest_altered_after_signing_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(SignatureError, match="altered"):
        unpack(archive(SIGNED.model_copy(update=change)))


def test_exchanged_file_is_refused_by_name() -> None:
    streams = [zlib.compress(content) for content in FILES.values()]
    streams[1] = zlib.compress(FILES["eval.onnx"][::-1])
    with pytest.raises(BundleError, match=r"eval\.onnx: altered"):
        unpack(archive(SIGNED, *streams))


@pytest.mark.parametrize("name", ["../train.onnx", "/etc/passwd", "train.onnx/", "weights.bin", "train.onnx\n", ""])
def test_unknown_or_path_like_file_name_is_refused(name: str) -> None:
    manifest = SIGNED.model_dump(mode="json")
    manifest["files"][name] = manifest["files"]["train.onnx"]
    with pytest.raises(BundleError, match="files"):
        unpack(archive(manifest))


@pytest.mark.parametrize("declared_bytes", [10, 1000, 10_000_000])
def test_stream_that_unpacks_to_another_size_is_refused(declared_bytes: int) -> None:
    bomb = zlib.compress(bytes(5_000_000))
    entry = FileEntry(sha256=hashlib.sha256(bytes(declared_bytes)).hexdigest(), size=declared_bytes)
    manifest = signed_with(files={"train.onnx": entry})
    with pytest.raises(BundleError, match="does not unpack"):
        unpack(archive(manifest, bomb), largest_bytes=1 << 25)


@pytest.mark.parametrize("stream", [b"", b"not zlib", zlib.compress(FILES["train.onnx"]) + b"tail"])
def test_damaged_stream_is_refused_by_name(stream: bytes) -> None:
    manifest = signed_with(files=file_entries({"train.onnx": FILES["train.onnx"]}))
    with pytest.raises(BundleError, match=r"train\.onnx"):
        unpack(archive(manifest, stream))


def test_archive_above_the_limit_is_refused() -> None:
    with pytest.raises(BundleError, match=f"{len(GOLDEN)} bytes: at most"):
        unpack(GOLDEN, len(GOLDEN) - 1)


def test_files_above_the_limit_are_refused() -> None:
    unpacked_bytes = sum(len(content) for content in FILES.values())
    unpack(GOLDEN, unpacked_bytes)
    with pytest.raises(BundleError, match=f"{unpacked_bytes} bytes unpacked"):
        unpack(GOLDEN, unpacked_bytes - 1)


def test_declared_sizes_above_the_limit_are_refused_before_unpacking() -> None:
    entry = FileEntry(sha256="0" * 64, size=LARGEST_BYTES)
    manifest = signed_with(files={"train.onnx": entry, "eval.onnx": entry})
    with pytest.raises(BundleError, match=f"{2 * LARGEST_BYTES} bytes unpacked"):
        unpack(archive(manifest, b"x", b"x"))


def test_too_little_memory_names_both_numbers() -> None:
    with pytest.raises(BundleError, match=r"80000000 bytes.*79999999 are available"):
        unpack(GOLDEN, available_memory_bytes=79_999_999)


@pytest.mark.parametrize(
    ("preprocessing", "data_bytes", "needed"),
    [({}, 0, 1000), ({}, 10, 1030), ({"window": 8, "stride": 2}, 10, 1090), ({"window": 8, "stride": 0}, 10, 1030)],
)
def test_local_data_needs_memory_as_it_is_and_twice_as_windows(
    preprocessing: dict[str, JsonValue], data_bytes: int, needed: int
) -> None:
    manifest = SIGNED.model_copy(update={"preprocessing": preprocessing, "estimated_peak_bytes": 1000})
    assert manifest.needed_bytes(data_bytes) == needed


def test_bundle_that_fits_without_the_local_data_may_not_fit_with_it() -> None:
    with pytest.raises(BundleError, match=r"needs about 83000000 bytes.*81000000 are available"):
        open_bundle(pack_bundle(SIGNED, FILES), TRUSTED, LARGEST_BYTES, 81_000_000, data_bytes=1_000_000)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("surprise", 1),
        ("format_version", 2),
        ("name", "../x"),
        ("task", "ranking"),
        ("input_shape", []),
        ("input_shape", [0]),
        ("num_classes", "5"),
        ("layout", []),
        ("layout", [["w", [5], "other"]]),
        ("files", {}),
        ("files", {"train.onnx": {"sha256": "0" * 64, "size": 1 << 40}}),
        ("minimum_onnxruntime", "1.19.0; rm"),
        ("estimated_peak_bytes", -1),
        ("signature", "00"),
    ],
)
def test_manifest_out_of_bounds_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(BundleError, match=field):
        unpack(archive(SIGNED.model_dump(mode="json") | {field: value}))


def test_missing_field_is_refused_by_name() -> None:
    manifest = SIGNED.model_dump(mode="json")
    del manifest["layout"]
    with pytest.raises(BundleError, match="layout"):
        unpack(archive(manifest))


def test_other_magic_is_refused() -> None:
    with pytest.raises(BundleError, match="not a gradsieve bundle"):
        unpack(b"PK\x03\x04" + GOLDEN[4:])


def test_files_that_are_not_the_manifests_cannot_be_packed() -> None:
    with pytest.raises(BundleError, match="watch-gestures"):
        pack_bundle(SIGNED, FILES | {"train.onnx": b"other"})


def test_manifest_is_frozen() -> None:
    with pytest.raises(ValidationError):
        MANIFEST.name = "other"  # type: ignore[misc]  # the point of the test
