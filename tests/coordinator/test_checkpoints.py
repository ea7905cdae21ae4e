from pathlib import Path

import numpy as np
import pytest

from coordinator.checkpoints import CheckpointStore, Tensors
from shared.errors import RunError


def tensors(seed: int) -> Tensors:
    generator = np.random.default_rng(seed)
    return {
        "model.public": generator.standard_normal(500).astype(np.float32),
        "predictor.sent": generator.standard_normal(7),
        "predictor.steps": np.array(seed),
        "delta": np.zeros(0, np.uint8),
        "transposed": generator.standard_normal((3, 4)).T,
    }


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "checkpoints").iterdir())


def damage(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "checkpoints" / name
    content = bytearray(path.read_bytes())
    if kind == "truncated":
        del content[-1:]
    elif kind == "empty":
        content.clear()
    elif kind == "flipped bit in the header":
        content[20] ^= 1
    else:
        content[-100] ^= 0x10
    path.write_bytes(content)


def test_checkpoint_comes_back_bit_for_bit(store: CheckpointStore) -> None:
    saved = tensors(1)
    loaded = store.load(store.save(12, saved, {"base": "ab", "note": ""}))
    assert (loaded.server_round, loaded.facts) == (12, {"base": "ab", "note": ""})
    assert loaded.tensors.keys() == saved.keys()
    for name, array in saved.items():
        assert (loaded.tensors[name].dtype, loaded.tensors[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(loaded.tensors[name], array)


def test_same_content_has_the_same_name(store: CheckpointStore, tmp_path: Path) -> None:
    facts = {str(number): "x" for number in range(20)}
    assert store.save(1, tensors(1), facts) == store.save(1, tensors(1), dict(reversed(facts.items())))
    assert len(files(tmp_path)) == 1


def test_three_newest_are_kept(store: CheckpointStore, tmp_path: Path) -> None:
    names = [store.save(server_round, tensors(server_round), {}) for server_round in (1, 2, 9, 10, 11)]
    assert files(tmp_path) == names[2:]


@pytest.mark.parametrize("kind", ["truncated", "empty", "flipped bit in the header", "flipped bit in a tensor"])
def test_damaged_checkpoint_is_refused_and_set_aside(store: CheckpointStore, tmp_path: Path, kind: str) -> None:
    names = [store.save(server_round, tensors(server_round), {}) for server_round in (1, 2)]
    damage(tmp_path, names[1], kind)
    with pytest.raises(RunError, match="damaged and was set aside"):
        store.load(names[1])
    assert files(tmp_path) == [names[0], names[1] + ".corrupt"]
    np.testing.assert_array_equal(store.load(names[0]).tensors["model.public"], tensors(1)["model.public"])


@pytest.mark.parametrize("name", ["round-0000001-0123456789abcdef.safetensors", "../journal.db", ""])
def test_unknown_checkpoint_is_named(store: CheckpointStore, tmp_path: Path, name: str) -> None:
    (tmp_path / "journal.db").touch()
    with pytest.raises(RunError, match="there is no checkpoint"):
        store.load(name)


def test_crash_while_writing_leaves_the_one_before(store: CheckpointStore, tmp_path: Path) -> None:
    name = store.save(1, tensors(1), {})
    (tmp_path / "checkpoints" / "round-0000002-0123456789abcdef.tmp").write_bytes(b"half a checkpoint")
    reopened = CheckpointStore(tmp_path / "checkpoints")
    assert reopened.load(name).server_round == 1
    assert files(tmp_path) == [name]


def test_unwritable_folder_is_named(store: CheckpointStore, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").rmdir()
    with pytest.raises(RunError, match="cannot be written"):
        store.save(1, tensors(1), {})
