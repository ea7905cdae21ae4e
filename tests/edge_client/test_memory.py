import pytest

from edge_client.memory import available_bytes, field_bytes, peak_rss_bytes
from shared.errors import DataError

STATUS = "Name:\tagent\nVmPeak:\t  999 kB\nVmHWM:\t   1234 kB\n"


def test_field_is_found_and_given_in_bytes() -> None:
    assert field_bytes(STATUS, "VmHWM") == 1234 * 1024


def test_missing_field_is_named() -> None:
    with pytest.raises(DataError, match="VmRSS"):
        field_bytes(STATUS, "VmRSS")


def test_this_process_has_a_peak_below_what_the_machine_has() -> None:
    assert 1 << 20 < peak_rss_bytes() < 1 << 40
    assert available_bytes() > 0
