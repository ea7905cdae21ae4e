import sys

import pytest
from typer.testing import CliRunner

from coordinator.bench import compression
from coordinator.main import app


def test_what_follows_a_benchmarks_name_goes_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[list[str]] = []
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(compression, "main", lambda: heard.append(sys.argv[1:]))
    result = CliRunner().invoke(app, ["bench", "compression", "--quick", "--seeds", "1", "2"])
    assert result.exit_code == 0
    assert heard == [["--quick", "--seeds", "1", "2"]]


def test_an_unknown_benchmark_is_answered_with_those_there_are() -> None:
    result = CliRunner().invoke(app, ["bench", "speed"])
    assert result.exit_code == 2
    assert "codec, compression, device, runtime, watch" in " ".join(result.output.replace("│", " ").split())
