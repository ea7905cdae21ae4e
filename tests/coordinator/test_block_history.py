import numpy as np

from coordinator.block_history import FEATURES, ROLES, BlockHistory
from shared.layout import Layout


def test_frozen_block_has_no_role_among_the_features_and_the_others_have_one() -> None:
    layout = Layout.of([("w", (2, 64), "weight"), ("f", (512, 200), "frozen"), ("n", (8,), "norm")])
    features = BlockHistory(layout).features(300)
    assert features.shape == (layout.num_blocks, FEATURES)
    assert np.isfinite(features).all()
    assert features[:, : len(ROLES)].sum(1).tolist() == [1, 1, 0, 1]
