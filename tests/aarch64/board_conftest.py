"""The board's `tests/conftest.py`: an emulated CPU is slow, so that no example has a deadline and fewer are drawn."""

from hypothesis import HealthCheck, settings

settings.register_profile("board", deadline=None, max_examples=20, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("board")
