import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.codec import SparseUpdate
from shared.compression.dgc import MomentumCorrection
from shared.compression.memory import ClientMemory, NoMemory
from shared.compression.plan import Plan
from shared.compression.registry import CODECS, codec_by_name, memory_by_codec
from shared.compression.residual import ResidualFeedback
from shared.layout import Layout

LAYOUT = Layout.of([("weight", (4, 70), "weight")])
MEMORIES: list[type[ClientMemory]] = [NoMemory, ResidualFeedback, MomentumCorrection]


def test_sparsifiers_keep_a_residual_quantisers_nothing_and_dgc_its_momentum() -> None:
    memories = {codec.name: memory_by_codec(codec.name) for codec in CODECS}
    assert {name for name, memory in memories.items() if memory is NoMemory} == {"qsgd", "terngrad", "eden"}
    assert {name for name, memory in memories.items() if memory is MomentumCorrection} == {"dgc"}
    others = {"partition", "stc", "dense", "fp16", "topk", "sidco", "adacomp"}
    assert {name for name, memory in memories.items() if memory is ResidualFeedback} == others


@pytest.mark.parametrize("name", [codec.name for codec in CODECS])
@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 1_000))
def test_a_memory_goes_on_from_its_saved_state(name: str, seed: int) -> None:
    updates = np.random.default_rng(seed).standard_normal((3, LAYOUT.size)).astype(np.float32)
    kind = memory_by_codec(name)
    memory = kind.zero(LAYOUT.size)
    for update in updates[:2]:
        compensated = memory.compensate(update)
        memory = memory.after(compensated, codec_by_name(name).encode(compensated, LAYOUT, Plan(60)).delivered)
    restored = kind.from_state(memory.state.copy(), LAYOUT.size)
    np.testing.assert_array_equal(restored.compensate(updates[2]), memory.compensate(updates[2]))


@pytest.mark.parametrize("kind", MEMORIES)
def test_a_state_of_another_size_is_a_mistake(kind: type[ClientMemory]) -> None:
    with pytest.raises(ValueError, match="of 3 values"):
        kind.from_state(np.zeros(3, np.float32), 2)


@pytest.mark.parametrize("kind", [ResidualFeedback, MomentumCorrection])
def test_a_refused_update_is_owed_again(kind: type[ClientMemory]) -> None:
    compensated = kind.zero(3).compensate(np.array([1, 2, 4], np.float32))
    delivered = SparseUpdate(3, np.array([2]), compensated[2:])
    memory = kind.zero(3).after(compensated, delivered).refused(delivered)
    np.testing.assert_array_equal(memory.state[:3], [1, 2, 4])


def test_no_memory_passes_updates_through() -> None:
    update = np.ones(3, np.float32)
    memory = NoMemory.zero(3)
    assert memory.compensate(update, missed_rounds=2) is update
    assert memory.after(update, SparseUpdate.nothing(3)).refused(SparseUpdate.nothing(3)).state.size == 0
