import hashlib
from pathlib import Path

import numpy as np
import pytest

from edge_client.fleet.model_shelf import ModelShelf
from shared.compression.codec import SparseUpdate
from shared.compression.dense import DenseCodec
from shared.compression.plan import Plan
from shared.compression.registry import decode_frame
from shared.delta_chain import Link, pack_chain
from shared.layout import F32, Layout
from shared.update import base_tag

LAYOUT = Layout.of([("w", (4, 8), "weight"), ("b", (4,), "bias")])
PLAN = Plan(budget_bytes=8 * LAYOUT.size)


def chain_file(folder: Path, links: list[Link]) -> Path:
    content = pack_chain(links)
    path = folder / hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    return path


def a_run_of(shelf: ModelShelf, rounds: int) -> tuple[list[str], list[Link], F32]:
    """The digests of a run's models, the deltas between them, and the last model."""
    draw = np.random.default_rng(7)
    model = draw.standard_normal(LAYOUT.size).astype(np.float32)
    digests, links = [shelf.put(model.copy())], list[Link]()
    for _ in range(rounds):
        delta = draw.standard_normal(LAYOUT.size).astype(np.float32)
        frame = DenseCodec().encode(delta, LAYOUT, PLAN).frame
        links.append(Link(base_tag(digests[-1]), frame))
        DenseCodec().decode(frame, LAYOUT, PLAN).add_to(model)
        digests.append(hashlib.sha256(model.tobytes()).hexdigest())
    return digests, links, model


def test_devices_that_lag_by_different_rounds_end_at_one_model_and_each_delta_is_decoded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf, decoded = ModelShelf(tmp_path / "models"), list[bytes]()

    def decode(frame: bytes, layout: Layout, plan: Plan) -> SparseUpdate:
        decoded.append(frame)
        return decode_frame(frame, layout, plan)

    monkeypatch.setattr("edge_client.fleet.model_shelf.decode_frame", decode)
    digests, links, model = a_run_of(shelf, 4)
    for lag in (4, 1, 2, 3):
        chain = chain_file(tmp_path, links[-lag:])
        assert shelf.led(digests[-1 - lag], chain, LAYOUT) == digests[-1]
    reached = shelf.get(digests[-1])
    assert reached is not None
    assert reached.tobytes() == model.tobytes()
    assert decoded == [link.frame for link in links]


def test_a_chain_that_is_cut_or_begins_elsewhere_leads_to_nothing(tmp_path: Path) -> None:
    shelf = ModelShelf(tmp_path / "models")
    digests, links, _ = a_run_of(shelf, 2)
    assert shelf.led(digests[0], chain_file(tmp_path, links[1:]), LAYOUT) is None
    assert shelf.led("ab" * 32, chain_file(tmp_path, links), LAYOUT) is None
    cut = tmp_path / "cut"
    cut.write_bytes(pack_chain(links)[:-1])
    assert shelf.led(digests[0], cut, LAYOUT) is None
