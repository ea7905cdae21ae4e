import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_client.cli import parse_command_line
from edge_client.main import main
from shared.signing import SigningKey

KEY = SigningKey(bytes(32)).verify_key.hex


@pytest.fixture(autouse=True)
def signals_of_the_test_run() -> Iterator[None]:
    """`main` takes over these signals for the rest of its process: give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def flags(tmp_path: Path, port: int = 1883) -> list[str]:
    (tmp_path / "data").mkdir(exist_ok=True)
    return [
        *("run", "--name", "board-1", "--broker", f"127.0.0.1:{port}", "--trust", KEY),
        *("--data", str(tmp_path / "data"), "--state", str(tmp_path / "state")),
    ]


def fails(arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on standard error of a command that ends with `code`."""
    assert main(arguments) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gradsieve-edge: ")]
    assert len(lines) == 1
    return lines[0]


def test_flags_win_over_environment_and_file(tmp_path: Path) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('name = "of-file"\nheartbeat_seconds = 5\n[broker]\nkeepalive_seconds = 10\n')
    invocation = parse_command_line([*flags(tmp_path, 4000), "--config", str(file), "--trust", "operator.pub"])
    settings = invocation.settings({"GRADSIEVE_EDGE_NAME": "of-env", "GRADSIEVE_EDGE_BROKER__USERNAME": "anna"})
    assert (settings.name, settings.heartbeat_seconds) == ("board-1", 5)
    assert (settings.broker.address, settings.broker.username) == ("127.0.0.1:4000", "anna")
    assert settings.broker.keepalive_seconds == 10
    assert settings.trusted_signers == (KEY, "operator.pub")


def test_missing_config_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere.toml" in fails([*flags(tmp_path), "--config", "nowhere.toml"], 78, capsys)


def test_config_that_is_not_toml_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "edge.toml").write_text("name = ")
    assert "not valid TOML" in fails([*flags(tmp_path), "--config", str(tmp_path / "edge.toml")], 78, capsys)


def test_unknown_key_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "edge.toml").write_text("colour = 3")
    assert "unknown key colour" in fails([*flags(tmp_path), "--config", str(tmp_path / "edge.toml")], 78, capsys)


def test_missing_data_folder_is_named_with_a_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = flags(tmp_path)
    (tmp_path / "data").rmdir()
    line = fails(arguments, 66, capsys)
    assert str(tmp_path / "data") in line
    assert "--data" in line


def test_absent_broker_ends_with_its_address_when_asked_to_give_up(
    tmp_path: Path, free_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails([*flags(tmp_path, free_port), "--connect-seconds", "0.3"], 69, capsys)
    assert f"127.0.0.1:{free_port}" in line


@pytest.mark.parametrize("arguments", [["--broker", "host"], ["--broker", "host:0"], ["--connect-seconds", "soon"]])
def test_wrong_usage_ends_with_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", *arguments])
    assert ended.value.code == 2
    assert arguments[1] in capsys.readouterr().err


def test_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("gradsieve-edge")


def test_terminated_agent_leaves_with_code_0(tmp_path: Path, free_port: int) -> None:
    command = [sys.executable, "-m", "edge_client.main", *flags(tmp_path, free_port)]
    agent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert agent.stderr is not None
    with agent:
        assert any("no link to the broker" in line for line in iter(agent.stderr.readline, ""))
        agent.send_signal(signal.SIGTERM)
        rest = agent.stderr.read()
        assert agent.wait(10) == 0
    assert "leaving" in rest
    assert "Traceback" not in rest


def test_agent_loads_neither_numpy_nor_onnxruntime_nor_the_doctor() -> None:
    code = "import edge_client.main, sys; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {"numpy", "onnxruntime", "edge_client.doctor", "cryptography.x509"} & loaded


def test_doctor_without_settings_tells_what_is_missing_and_ends_with_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("GRADSIEVE_EDGE_NAME", "GRADSIEVE_EDGE_DATA"):
        monkeypatch.delenv(variable, raising=False)
    assert main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fail  settings")
    assert "GRADSIEVE_EDGE_NAME" in lines[0]
    assert "\x1b" not in "".join(lines), "no colour without a terminal"
    assert any(line.startswith("ok    training") for line in lines)
