import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, Field

from shared.errors import SettingsError
from shared.settings import BrokerSettings, TlsSettings, load_settings


class Device(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    labels: tuple[str, ...] = ()
    broker: BrokerSettings = Field(default_factory=BrokerSettings)


def load(tmp_path: Path, toml: str, **environment: str) -> Device:
    file = tmp_path / "device.toml"
    file.write_text(toml)
    return load_settings(Device, file, "GS_", environment)


def failure(tmp_path: Path, toml: str, **environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, toml, **environment)
    text = str(caught.value)
    assert "\n" not in text
    return text.replace(str(tmp_path), "")


def test_defaults_file_and_environment_are_layered(tmp_path: Path) -> None:
    settings = load(
        tmp_path, 'name = "pi"\n[broker]\nhost = "farm"\nport = 1', GS_BROKER__PORT="8883", GS_LABELS='["a"]', PATH="x"
    )
    assert settings == Device(name="pi", labels=("a",), broker=BrokerSettings(host="farm", port=8883))


def test_environment_alone_is_enough() -> None:
    settings = load_settings(
        Device, None, "GS_", {"GS_NAME": "pi", "GS_BROKER__TLS__CA_FILE": "ca.pem", "GS_BROKER__PASSWORD": "1234"}
    )
    assert settings.broker.tls == TlsSettings(ca_file=Path("ca.pem"))
    assert settings.broker.password is not None
    assert settings.broker.password.get_secret_value() == "1234"
    assert "1234" not in repr(settings)


def test_unknown_key_names_file_key_and_closest_key(tmp_path: Path) -> None:
    text = failure(tmp_path, 'name = "pi"\n[broker.tls]\nca_flie = "x"\nca_file = "x"')
    assert text == "/device.toml: unknown key broker.tls.ca_flie: did you mean ca_file?"


def test_unknown_key_without_a_neighbour_lists_the_known_ones(tmp_path: Path) -> None:
    text = failure(tmp_path, 'name = "pi"\nzzz = 1')
    assert text == "/device.toml: unknown key zzz: known keys are name, labels, broker"


def test_unknown_variable_is_named(tmp_path: Path) -> None:
    text = failure(tmp_path, 'name = "pi"', GS_BROKER__PROT="1")
    assert text == "environment variable GS_BROKER__PROT: unknown key broker.prot: did you mean port?"


def test_bad_value_names_file_and_key_and_counts_the_rest(tmp_path: Path) -> None:
    text = failure(tmp_path, 'name = "pi"\n[broker]\nport = 0\nkeepalive_seconds = 1')
    assert text == "/device.toml: broker.port: Input should be greater than or equal to 1 (and 1 more)"


def test_missing_key_names_both_ways_to_give_it(tmp_path: Path) -> None:
    assert failure(tmp_path, "") == "/device.toml: name is missing: set it in the file or as GS_NAME"


def test_half_a_certificate_is_refused(tmp_path: Path) -> None:
    text = failure(tmp_path, 'name = "pi"\n[broker.tls]\nca_file = "a"\ncert_file = "b"')
    assert "broker.tls: " in text
    assert "cert_file and key_file must be given together" in text


def test_secret_of_the_wrong_kind_is_not_shown(tmp_path: Path) -> None:
    assert "4711" not in failure(tmp_path, 'name = "pi"\n[broker]\npassword = 4711')


@pytest.mark.parametrize(
    ("toml", "environment", "expected"),
    [
        ("name = ", {}, "/device.toml: is not valid TOML"),
        ("broker = 1", {"GS_BROKER__PORT": "1"}, "variable GS_BROKER__PORT: broker is a single value"),
        ("", {"GS_LABELS": "[1"}, "variable GS_LABELS: is not valid JSON"),
    ],
)
def test_unreadable_source_is_named(tmp_path: Path, toml: str, environment: dict[str, str], expected: str) -> None:
    assert expected in failure(tmp_path, toml, **environment)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.toml: cannot be read \(No such file"):
        load_settings(Device, tmp_path / "absent.toml", "GS_", {})


def test_every_key_is_described() -> None:
    for model in (BrokerSettings, TlsSettings):
        assert all(field.description for field in model.model_fields.values())


@pytest.mark.parametrize("module", ["shared.settings", "shared.paho_transport", "shared.memory_transport"])
def test_importing_it_does_not_import_numpy(module: str) -> None:
    code = f"import sys, {module}; sys.exit('numpy' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=30).returncode == 0


def test_password_is_read_from_its_file_without_the_end_of_its_line(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(" pass word\r\n")
    settings = BrokerSettings(username="anna", password_file=tmp_path / "secret").with_password()
    assert settings.password is not None
    assert settings.password.get_secret_value() == " pass word"
    assert settings.with_password() is settings
    assert "pass word" not in repr(settings)


@pytest.mark.parametrize("content", [b"", b"\n", b"sesame\ntwo\n", b"x" * 5000, b"\xff\xfe"])
def test_file_that_holds_no_single_password_is_named_and_not_quoted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SettingsError, match=r"password_file .*secret: ") as caught:
        BrokerSettings(username="anna", password_file=tmp_path / "secret").with_password()
    assert not {"sesame", "xxx"} & set(str(caught.value).split())


def test_password_is_given_once_and_for_somebody(tmp_path: Path) -> None:
    twice = failure(tmp_path, 'name = "pi"\n[broker]\nusername = "a"\npassword = "b"\npassword_file = "c"')
    assert twice == "/device.toml: broker: both password and password_file: leave one out"
    nobodys = failure(tmp_path, 'name = "pi"\n[broker]\npassword_file = "c"')
    assert nobodys == "/device.toml: broker: password_file needs username"
