from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.gate import COOLED_CELSIUS, Decision, GateLimits, Readiness, Reading, decide
from edge_client.quiet_hours import QuietHours

LIMITS = GateLimits(hottest_celsius=75, mains_only=True, least_battery_share=0.3)
FINE = Reading(celsius=50.0, on_mains=True, battery_share=0.9, available_bytes=200 << 20, free_disk_bytes=1 << 30)


def said(reading: Reading, limits: GateLimits = LIMITS) -> tuple[str, tuple[str, ...]]:
    decision = decide(reading, limits)
    return decision.readiness.value, decision.reasons


def test_board_that_is_fine_may_work() -> None:
    assert said(FINE) == ("go", ())


def test_what_a_board_has_no_sensor_for_does_not_count() -> None:
    assert said(Reading()) == ("go", ())


@pytest.mark.parametrize(
    ("reading", "readiness", "reason"),
    [
        (replace(FINE, celsius=75.6), "wait", "the board has 76 °C, gate.hottest_celsius = 75"),
        (
            replace(FINE, throttled=("under-voltage", "throttled")),
            "wait",
            "the processor is held back: under-voltage, throttled",
        ),
        (
            replace(FINE, available_bytes=20 << 20),
            "wait",
            "20 MiB of memory are available, gate.least_memory_bytes = 33554432",
        ),
        (
            replace(FINE, free_disk_bytes=5 << 20),
            "stop",
            "5 MiB are free where state_dir is, gate.least_disk_bytes = 67108864",
        ),
        (replace(FINE, on_mains=False), "stop", "the board runs on battery, gate.mains_only = true"),
        (replace(FINE, metered_by="wwan0"), "stop", "the network is reached by wwan0, one of gate.metered_interfaces"),
        (replace(FINE, quiet=QuietHours.parse("22:00-06:30")), "stop", "these are quiet hours, 22:00-06:30"),
    ],
)
def test_each_hindrance_has_its_weight_and_plain_words(reading: Reading, readiness: str, reason: str) -> None:
    assert said(reading) == (readiness, (reason,))


def test_low_battery_stops_unless_it_is_being_charged() -> None:
    limits = LIMITS.model_copy(update={"mains_only": False})
    low = replace(FINE, on_mains=False, battery_share=0.29)
    assert said(low, limits) == ("stop", ("the battery is at 29%, gate.least_battery_share = 0.3",))
    assert said(replace(low, battery_share=0.3), limits) == ("go", ())
    assert said(replace(low, on_mains=True), limits) == ("go", ())


def test_all_hindrances_are_named_and_the_strongest_decides() -> None:
    decision = decide(replace(FINE, celsius=90.0, on_mains=False), LIMITS)
    assert decision.readiness is Readiness.STOP
    assert decision.names == {"heat", "mains"}


def test_hot_board_has_to_cool_down_some_way_before_it_works_again() -> None:
    hot = decide(replace(FINE, celsius=76.0), LIMITS)
    nearly = replace(FINE, celsius=74.0)
    assert decide(nearly, LIMITS).readiness is Readiness.GO
    assert decide(nearly, LIMITS, hot).reasons == (
        "the board has 74 °C and has to cool down to 70 °C, gate.hottest_celsius = 75",
    )
    assert decide(replace(FINE, celsius=70.0), LIMITS, hot).readiness is Readiness.GO


Change = Callable[[Reading], Reading]
readings = st.builds(
    Reading,
    celsius=st.none() | st.floats(-40, 150),
    throttled=st.sampled_from([(), ("throttled",)]),
    on_mains=st.none() | st.booleans(),
    battery_share=st.none() | st.floats(0, 1),
    available_bytes=st.none() | st.integers(0, 1 << 33),
    free_disk_bytes=st.none() | st.integers(0, 1 << 40),
    metered_by=st.none() | st.just("wwan0"),
    quiet=st.none() | st.just(QuietHours.parse("22:00-06:30")),
)
limits = st.builds(
    GateLimits,
    hottest_celsius=st.none() | st.floats(20, 120),
    mains_only=st.booleans(),
    least_battery_share=st.none() | st.floats(0.01, 1),
    least_memory_bytes=st.integers(0, 1 << 33),
    least_disk_bytes=st.integers(0, 1 << 40),
)


@given(reading=readings, limits=limits)
def test_go_has_no_reasons_and_anything_else_has(reading: Reading, limits: GateLimits) -> None:
    decision = decide(reading, limits)
    assert (decision.readiness is Readiness.GO) == (not decision.reasons)
    assert len(decision.reasons) == len(decision.names)


@given(reading=readings, limits=limits, cooler=st.floats(0, 60))
def test_cooler_board_is_never_hindered_more(reading: Reading, limits: GateLimits, cooler: float) -> None:
    before = decide(reading, limits)
    if reading.celsius is not None:
        after = decide(replace(reading, celsius=reading.celsius - cooler), limits, before)
        assert after.names <= before.names
        if cooler > COOLED_CELSIUS and limits.hottest_celsius and reading.celsius <= limits.hottest_celsius:
            assert "heat" not in after.names


def test_no_decision_yet_lets_the_device_work() -> None:
    assert Decision().readiness is Readiness.GO
