from pathlib import Path

import pytest

from edge_client.doctor.sandbox import hidden
from edge_client.settings import EdgeSettings
from shared.settings import BrokerSettings, TlsSettings
from shared.signing import SigningKey

HEX = SigningKey(bytes(32)).verify_key.hex


def settings(data: str, ca_file: str = "/etc/gradsieve/ca.crt") -> EdgeSettings:
    broker = BrokerSettings(tls=TlsSettings(ca_file=Path(ca_file)))
    return EdgeSettings(
        name="b",
        data=Path(data),
        state_dir=Path("/var/lib/gradsieve-edge/state"),
        trusted_signers=(HEX,),
        broker=broker,
    )


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    (tmp_path / "gradsieve-edge.service").touch()
    return tmp_path / "gradsieve-edge.service"


def test_data_in_a_home_folder_is_warned_of_where_the_service_is_installed(unit: Path) -> None:
    (found,) = hidden(settings("/home/pi/data"), unit)
    assert "/home/pi/data" in found.text
    assert hidden(settings("/home/pi/data"), unit.with_name("absent")) == []


def test_every_path_of_the_settings_counts(unit: Path) -> None:
    assert len(hidden(settings("/run/user/1/data", ca_file="/home/pi/ca.crt"), unit)) == 2


def test_paths_that_the_service_sees_are_fine(unit: Path) -> None:
    assert hidden(settings("/srv/homes/data"), unit) == []
