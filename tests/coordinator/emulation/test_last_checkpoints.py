from pathlib import Path

import numpy as np
import pytest

from coordinator.checkpoints import CheckpointStore
from coordinator.emulation.last_checkpoints import LastCheckpoints


@pytest.mark.parametrize("rounds", [1, 2, 3, 4, 9])
def test_at_its_end_an_emulated_run_has_the_checkpoints_of_a_real_one(tmp_path: Path, rounds: int) -> None:
    real, emulated = CheckpointStore(tmp_path / "real"), LastCheckpoints(tmp_path / "emulated", rounds)
    for store in (real, emulated):
        for server_round in range(1, rounds + 1):
            if store.wants(server_round):
                store.save(server_round, {"model.public": np.full(3, server_round, np.float32)}, {"base": ""})
    names = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("real", "emulated")]
    assert names[0] == names[1]
    assert len(names[0]) == min(rounds, 3)
