import numpy as np

from coordinator.send_histories import SendHistories
from shared.compression.history import SendHistory
from shared.layout import Layout

LAYOUT = Layout.of([("a.weight", (4, 8), "weight")])


def after(histories: SendHistories, device: str, value: int) -> SendHistory:
    return histories.of(device).after(np.array([value]), LAYOUT)


def test_a_device_that_sends_is_known_and_another_one_is_not() -> None:
    histories = SendHistories(LAYOUT)
    histories.advance({"here": after(histories, "here", 3)})
    assert list(histories) == ["here"]
    assert not histories.of("here").is_empty
    assert histories.of("elsewhere").is_empty


def test_a_device_that_stays_silent_for_too_long_is_forgotten_and_one_that_sends_again_is_not() -> None:
    histories = SendHistories(LAYOUT, rounds_kept=2)
    histories.advance({name: after(histories, name, 1) for name in ("gone", "back")})
    histories.advance({})
    histories.advance({"back": after(histories, "back", 2)})
    assert set(histories) == {"gone", "back"}
    histories.advance({})
    assert set(histories) == {"back"}


def test_restored_histories_forget_in_the_same_round_as_those_that_were_saved() -> None:
    histories = SendHistories(LAYOUT, rounds_kept=2)
    histories.advance({"a/long name": after(histories, "a/long name", 1)})
    histories.advance({"b": after(histories, "b", 2)})
    again = SendHistories(LAYOUT, rounds_kept=2)
    again.restore(histories.state())
    for _ in range(4):
        assert list(histories.state()) == list(again.state())
        assert histories.of("b").to_bytes() == again.of("b").to_bytes()
        histories.advance({})
        again.advance({})
    assert len(again) == 0
