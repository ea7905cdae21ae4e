import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.bench.cell import Cell, Skew
from coordinator.bench.cell_shelf import CellShelf
from coordinator.bench.recipe import Recipe, budget_bytes
from coordinator.bench.recipes import ratio_of
from coordinator.tasks.examples import Examples
from shared.compression.plan import Plan
from shared.compression.registry import codec_by_name
from shared.errors import DataError
from shared.layout import Layout

CELL = Cell("digits", "iid", Recipe("stc", ratio=300))


def test_a_key_tells_runs_apart_and_not_what_they_are_for() -> None:
    again = Cell("digits", "iid", Recipe("stc", ratio=300, study="codec", variant="plain"))
    assert again.key == CELL.key
    others = [replace(CELL, seed=2), replace(CELL, recipe=replace(CELL.recipe, codec_options=(("levels", 1),)))]
    assert len({CELL.key, *(other.key for other in others)}) == 3


def test_a_key_names_no_field_that_is_at_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    digested: list[bytes] = []

    def listened(words: bytes) -> Any:
        digested.append(words)
        return sha256(words)

    monkeypatch.setattr("coordinator.bench.cell.hashlib.sha256", listened)
    assert len(replace(CELL, recipe=replace(CELL.recipe, gain=1.5)).key) == 16
    ((_, run),) = map(json.loads, digested)
    assert run["recipe"] == {"codec": "stc", "ratio": 300, "gain": 1.5}


def test_a_kept_row_comes_back_with_what_it_is_for(tmp_path: Path) -> None:
    shelf = CellShelf(tmp_path / "runs")
    assert shelf.get(CELL) is None
    shelf.put(CELL, {"accuracy": 0.5, "study": "", "variant": ""})
    asked = replace(CELL, recipe=replace(CELL.recipe, study="codec"))
    assert shelf.get(asked) == {"accuracy": 0.5, "study": "codec", "variant": ""}
    (kept,) = (tmp_path / "runs").iterdir()
    kept.write_text(kept.read_text()[:-20])
    assert shelf.get(CELL) is None


@pytest.mark.parametrize("skew", ["iid", "dirichlet-0.5", "dirichlet-0.1", "natural"])
def test_every_split_gives_each_example_to_one_client(skew: Skew) -> None:
    examples = Examples(np.zeros((200, 2), np.float32), np.arange(200) % 5, np.arange(200) % 10)
    shares = replace(CELL, skew=skew).split(examples)
    assert len(shares) == 10
    assert np.array_equal(np.sort(np.concatenate(shares)), np.arange(200))


def test_a_natural_split_without_owners_is_refused() -> None:
    with pytest.raises(DataError, match="nobody is known to own"):
        replace(CELL, skew="natural").split(Examples(np.zeros((20, 2), np.float32), np.arange(20) % 5))


@pytest.mark.parametrize("codec", ["partition", "stc", "topk", "sidco"])
@pytest.mark.parametrize("density", [0.001, 0.01])
def test_the_ratio_of_a_density_lets_a_codec_send_about_that_share(codec: str, density: float) -> None:
    layout = Layout.of([("weight", (100, 500), "weight")])
    update = np.random.default_rng(1).laplace(size=layout.size).astype(np.float32)
    plan = Plan(budget_bytes(layout.size, ratio_of(codec, density)))
    sent = len(codec_by_name(codec).encode(update, layout, plan).delivered.indices)
    assert 0.7 * density < sent / layout.size < 1.2 * density
