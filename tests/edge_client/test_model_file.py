from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.model_file import ModelFile, digest_of
from shared.compression.plan import Plan
from shared.compression.registry import codec_by_name
from shared.delta_chain import Link, pack_chain
from shared.errors import DigestMismatch
from shared.layout import F32, Layout
from shared.update import base_tag

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


def deltas(count: int, codec: str = "dense", seed: int = 0) -> tuple[list[Link], list[F32]]:
    """Random deltas in a row from `MODEL`, and the models before the first, between them and after the last."""
    random, models, links = np.random.default_rng(seed), [MODEL], list[Link]()
    for _ in range(count):
        update = (random.standard_t(3, 200) * 0.1).astype(np.float32)
        encoded = codec_by_name(codec).encode(update, LAYOUT, Plan(budget_bytes=1000))
        links.append(Link(base_tag(digest_of(models[-1])), encoded.frame))
        models.append(models[-1].copy())
        encoded.delivered.add_to(models[-1])
    return links, models


def written(path: Path, links: Sequence[Link]) -> Path:
    path.write_bytes(pack_chain(links))
    return path


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
@pytest.mark.parametrize("lag", [1, 2, 9])
def test_deltas_since_the_kept_model_lead_to_the_exact_one(tmp_path: Path, codec: str, lag: int) -> None:
    links, models = deltas(9, codec)
    kept = ModelFile(tmp_path, LAYOUT)
    kept.replace(arrived(tmp_path / "received", models[9 - lag]), digest_of(models[9 - lag]))
    advanced = kept.advance(written(tmp_path / "chain", links), digest_of(models[9]))
    assert advanced is not None
    assert advanced.tobytes() == models[9].tobytes()
    assert kept.digest() == digest_of(models[9])


@given(
    seed=st.integers(0, 1000),
    held=st.integers(0, 6),
    order=st.lists(st.integers(0, 5), max_size=9) | st.just(list(range(6))),
    cut=st.integers(0, 40),
)
def test_any_chain_leads_to_the_exact_model_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, seed: int, held: int, order: list[int], cut: int
) -> None:
    """Links of a row of six in any order, some missing, some twice, the file perhaps cut at its end."""
    folder = tmp_path_factory.mktemp("model")
    links, models = deltas(6, seed=seed)
    kept = ModelFile(folder, LAYOUT)
    kept.replace(arrived(folder / "received", models[held]), digest_of(models[held]))
    chain = written(folder / "chain", [links[index] for index in order])
    chain.write_bytes(chain.read_bytes()[: -cut or None])
    advanced = kept.advance(chain, digest_of(models[6]))
    if advanced is None:
        assert kept.digest() == digest_of(models[held])
    else:
        assert advanced.tobytes() == models[6].tobytes()
        assert kept.digest() == digest_of(models[6])
    if held < 6 and order[len(order) - 6 + held :] == list(range(held, 6)) and cut == 0:
        assert advanced is not None


def test_chain_from_other_models_leads_nowhere(kept: ModelFile, tmp_path: Path) -> None:
    links, models = deltas(3)
    assert kept.advance(written(tmp_path / "chain", links[1:]), digest_of(models[3])) is None
    assert kept.digest() == digest_of(MODEL)


def test_device_without_a_model_gets_nowhere_by_deltas(tmp_path: Path) -> None:
    links, models = deltas(1)
    empty = ModelFile(tmp_path, LAYOUT)
    assert empty.digest() is None
    assert empty.advance(written(tmp_path / "chain", links), digest_of(models[1])) is None


@pytest.mark.parametrize("frame", [b"", b"\xff\xff", None])
def test_delta_that_does_not_lead_to_the_target_changes_nothing(
    kept: ModelFile, tmp_path: Path, frame: bytes | None
) -> None:
    (link,), _ = deltas(1)
    wrong = link if frame is None else Link(link.base, frame)
    assert kept.advance(written(tmp_path / "chain", [wrong]), "1" * 64) is None
    assert kept.digest() == digest_of(MODEL)
