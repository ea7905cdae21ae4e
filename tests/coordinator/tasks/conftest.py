from pathlib import Path

import pytest


@pytest.fixture
def nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a shelf of data sets nor a cache."""
    monkeypatch.setenv("GRADSIEVE_DATA", str(tmp_path / "shelf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
