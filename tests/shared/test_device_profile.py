import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.device_profile import DeviceProfile, dealt


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=5), st.integers(1, 200), st.integers(0, 9))
def test_every_kind_has_its_share_of_the_fleet(shares: list[float], count: int, seed: int) -> None:
    profiles = [DeviceProfile(name=f"kind-{number}", share=share) for number, share in enumerate(shares)]
    kinds = dealt(profiles, count, seed)
    assert len(kinds) == count
    for number, share in enumerate(shares):
        assert abs(Counter(kinds)[number] - count * share / sum(shares)) <= 1
    assert kinds == dealt(profiles, count, seed)


def test_a_device_draws_its_own_speed_around_its_kind() -> None:
    kind = DeviceProfile(gflops=2.0, up_kbit=100, spread=0.3)
    drawn = [kind.drawn(random.Random(seed)).gflops or 0.0 for seed in range(400)]
    assert 1.85 < sorted(drawn)[200] < 2.15
    assert len(set(drawn)) == 400
    assert kind.drawn(random.Random(1)) == kind.drawn(random.Random(1))
    assert kind.model_copy(update={"spread": 0.0}).drawn(random.Random(1)).gflops == 2.0


def test_a_step_takes_its_operations_and_what_every_step_takes() -> None:
    assert DeviceProfile(gflops=2.0, step_seconds=0.1).seconds_a_step(4e9) == pytest.approx(2.1)
    assert DeviceProfile(step_seconds=0.1).seconds_a_step(4e9) == 0.1


def test_hours_of_the_day_and_random_absence_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="leave one out"):
        DeviceProfile(mean_hours_online=1, daily_from=2)
