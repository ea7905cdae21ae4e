"""Where log lines go: a file beside the run, so that a live table stays whole, or stderr for a service."""

import logging
from pathlib import Path

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


def quiet_logs(folder: Path) -> None:
    """Write all log lines to a file beside `folder`, which is named after it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=folder.parent / f"{folder.name}.log", level=logging.INFO, format=FORMAT, force=True)
    _tame_flower()


def service_logs() -> None:
    """Everything to stderr, for journald or a terminal."""
    logging.basicConfig(level=logging.INFO, format=FORMAT, force=True)
    _tame_flower()


def _tame_flower() -> None:
    """Flower prints its own logger to stderr whatever the root logger does."""
    flower = logging.getLogger("flwr")
    flower.handlers.clear()
    flower.propagate = True
