from pathlib import Path

import numpy as np
import pytest

from edge_client.model_file import ModelFile, digest_of
from shared.compression.plan import Plan
from shared.compression.registry import codec_by_name
from shared.errors import DigestMismatch
from shared.layout import F32, Layout

LAYOUT = Layout.of([("w", (20, 10), "weight")])
MODEL = np.arange(200, dtype=np.float32)


def arrived(path: Path, model: F32) -> Path:
    path.write_bytes(model.tobytes())
    return path


@pytest.fixture
def kept(tmp_path: Path) -> ModelFile:
    """A model file that holds `MODEL`."""
    kept = ModelFile(tmp_path, LAYOUT)
    kept.replace(arrived(tmp_path / "received", MODEL), digest_of(MODEL))
    return kept


def delta_frame(path: Path, codec: str = "dense") -> tuple[Path, F32]:
    update = np.zeros(200, np.float32)
    update[::7] = 0.5
    encoded = codec_by_name(codec).encode(update, LAYOUT, Plan(budget_bytes=1000))
    path.write_bytes(encoded.frame)
    target = MODEL.copy()
    encoded.delivered.add_to(target)
    return path, target


def test_nothing_is_loaded_where_nothing_is_kept(tmp_path: Path) -> None:
    assert ModelFile(tmp_path, LAYOUT).load(digest_of(MODEL)) is None


def test_kept_model_is_found_by_its_digest_only(kept: ModelFile) -> None:
    found = kept.load(digest_of(MODEL))
    assert found is not None
    assert found.tobytes() == MODEL.tobytes()
    assert kept.load("0" * 64) is None


def test_torn_file_is_no_model(kept: ModelFile, tmp_path: Path) -> None:
    content = (tmp_path / "model.bin").read_bytes()
    for torn in (content[:-4], content[:-3], b"", b"\xff" + content[1:]):
        (tmp_path / "model.bin").write_bytes(torn)
        assert kept.load(digest_of(MODEL)) is None


@pytest.mark.parametrize("model", [MODEL[:-1], MODEL + 1])
def test_model_of_another_digest_or_size_is_refused(kept: ModelFile, tmp_path: Path, model: F32) -> None:
    with pytest.raises(DigestMismatch, match="publish it again"):
        kept.replace(arrived(tmp_path / "wrong", model), digest_of(MODEL))
    assert kept.load(digest_of(MODEL)) is not None


@pytest.mark.parametrize("codec", ["dense", "stc", "partition"])
def test_delta_leads_to_the_exact_model(kept: ModelFile, tmp_path: Path, codec: str) -> None:
    frame, target = delta_frame(tmp_path / "delta", codec)
    advanced = kept.advance(digest_of(MODEL), frame, digest_of(target))
    assert advanced is not None
    assert advanced.tobytes() == target.tobytes()
    assert kept.load(digest_of(target)) is not None


def test_delta_from_another_base_leads_nowhere(kept: ModelFile, tmp_path: Path) -> None:
    frame, target = delta_frame(tmp_path / "delta")
    assert kept.advance("0" * 64, frame, digest_of(target)) is None


@pytest.mark.parametrize("frame", [b"", b"\xff\xff", None])
def test_delta_that_does_not_lead_to_the_target_changes_nothing(
    kept: ModelFile, tmp_path: Path, frame: bytes | None
) -> None:
    path, _ = delta_frame(tmp_path / "delta")
    if frame is not None:
        path.write_bytes(frame)
    assert kept.advance(digest_of(MODEL), path, "1" * 64) is None
    assert kept.load(digest_of(MODEL)) is not None
