from dataclasses import replace

import numpy as np
import torch

from coordinator.bundle_builder import build_bundle
from coordinator.tasks.drill import DRILL
from shared.bundle import Bundle, open_bundle
from shared.growth import grow
from shared.layout import Layout
from shared.signing import SigningKey

KEY = SigningKey(bytes(32))


def opened(archive: bytes) -> Bundle:
    return open_bundle(archive, [KEY.verify_key], 1 << 26, available_memory_bytes=None)


def test_first_weights_of_a_task_that_begins_at_random_are_what_devices_grow() -> None:
    torch.set_num_threads(1)
    archive, initial = build_bundle(DRILL, 3, KEY)
    manifest = opened(archive).manifest
    assert manifest.growth is not None
    np.testing.assert_array_equal(grow(manifest.growth, Layout.of(list(manifest.layout))), initial)
    _, drawn = build_bundle(DRILL, 3, KEY, grown=False)
    assert abs(initial.std() / drawn.std() - 1) < 0.02


def test_weights_of_a_task_that_does_not_begin_at_random_are_the_modules_own() -> None:
    torch.set_num_threads(1)
    archive, initial = build_bundle(replace(DRILL, begins_at_random=False), 3, KEY)
    assert opened(archive).manifest.growth is None
    _, drawn = build_bundle(DRILL, 3, KEY, grown=False)
    np.testing.assert_array_equal(initial, drawn)
