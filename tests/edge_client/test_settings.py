from pathlib import Path

import pytest

from edge_client.settings import ENV_PREFIX, EdgeSettings
from shared.errors import SettingsError
from shared.settings import load_settings
from shared.signing import SigningKey

KEY = SigningKey(bytes(32)).verify_key
MINIMAL = f'name = "board-1"\ndata = "data"\ntrusted_signers = ["{KEY.hex}"]\n'


def load(path: Path, text: str, **environment: str) -> EdgeSettings:
    file = path / "edge.toml"
    file.write_text(text)
    return load_settings(EdgeSettings, file, ENV_PREFIX, environment)


def test_minimal_file_gives_the_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)
    assert (settings.name, settings.data, settings.trainer) == ("board-1", Path("data"), "process")
    assert settings.heartbeat_seconds == 30
    assert settings.broker.address == "127.0.0.1:1883"
    assert settings.signer_keys() == (KEY,)


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL, GRADSIEVE_EDGE_NAME="board-2", GRADSIEVE_EDGE_BROKER__PORT="1884")
    assert (settings.name, settings.broker.port) == ("board-2", 1884)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (MINIMAL + "heartbeat_second = 3\n", "unknown key heartbeat_second: did you mean heartbeat_seconds"),
        (MINIMAL + "heartbeat_seconds = 0\n", "heartbeat_seconds"),
        (MINIMAL + 'trainer = "gpu"\n', "trainer"),
        (MINIMAL + 'topic_root = "a/#"\n', "topic_root"),
        (MINIMAL.replace("board-1", "Board 1"), "device name 'Board 1'"),
        ('name = "board-1"\ndata = "data"\ntrusted_signers = []\n', "trusted_signers"),
        ("", "is missing"),
    ],
)
def test_wrong_file_is_refused_in_one_line_that_names_the_key(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, text)
    assert fault in str(caught.value)
    assert "edge.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_signer_may_be_a_key_file(tmp_path: Path) -> None:
    KEY.save(tmp_path / "operator.pub")
    settings = load(tmp_path, MINIMAL.replace(KEY.hex, str(tmp_path / "operator.pub")))
    assert settings.signer_keys() == (KEY,)


@pytest.mark.parametrize("content", [None, "", "abc", "é" * 64])
def test_signer_that_is_no_key_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "operator.pub"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    settings = load(tmp_path, MINIMAL.replace(KEY.hex, str(file)))
    with pytest.raises(SettingsError, match="trusted_signers: neither a key of 64 hex digits nor a key file"):
        settings.signer_keys()
