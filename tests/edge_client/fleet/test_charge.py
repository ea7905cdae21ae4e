import pytest

from edge_client.fleet.charge import Charge
from shared.device_profile import Battery

HOUR = 3600.0


def battery(**changes: float) -> Battery:
    return Battery(**{"capacity_watt_hours": 10.0, "training_watts": 2.0, **changes})


def test_training_empties_the_battery_and_idling_does_too() -> None:
    charge = Charge(battery(idle_watts=0.5), 0.0)
    charge.train(HOUR, 0.0)
    assert charge.reading(0, 2 * HOUR).battery_share == pytest.approx((10 - 2 - 1) / 10)
    assert charge.spent_joules == pytest.approx(3 * HOUR)


def test_the_radio_counts_each_byte_once() -> None:
    charge = Charge(battery(joules_a_megabyte=3600.0), 0.0)
    charge.reading(1_000_000, 0.0)
    assert charge.reading(2_000_000, 0.0).battery_share == pytest.approx(0.8)


def test_the_charger_fills_it_at_its_hours_and_no_further_than_full() -> None:
    charge = Charge(battery(charge_watts=4.0, charge_from=9, charge_hours=2), 8 * HOUR)
    charge.train(2 * HOUR, 0.0)
    assert charge.reading(0, 0.5 * HOUR).on_mains is False
    assert charge.reading(0, 1.75 * HOUR).battery_share == pytest.approx(0.9)
    assert charge.reading(0, 1.75 * HOUR).on_mains is True
    assert charge.reading(0, 24 * HOUR).battery_share == 1.0


def test_an_empty_battery_stays_at_nothing() -> None:
    charge = Charge(battery(), 0.0)
    charge.train(100 * HOUR, 0.0)
    assert charge.reading(0, 0.0).battery_share == 0.0
