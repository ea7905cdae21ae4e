"""`scripts/test-aarch64`: this checkout on an emulated aarch64 board, from its wheels to rounds over a broker."""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from coordinator.tasks.shelf import cache_folder
from shared.errors import GradsieveError
from tests.aarch64.board import RASPBERRY_PI_4, Board
from tests.aarch64.board_root import CHECKOUT, made_root, why_not
from tests.aarch64.checks import CHECKS, EXTRA_CHECKS, Check

CACHE = cache_folder() / "aarch64"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the root where it is not cached, and run the checks; 0 where all pass, or none can be run here."""
    options = _options(arguments)
    reason = why_not(options.cache)
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    progress = Progress()
    try:
        root = made_root(options.cache, progress.say)
        with tempfile.TemporaryDirectory(prefix="gradsieve-board-") as work:
            board = Board(root, Path(work), options.cpu)
            failed = [
                name for name in options.checks if not progress.passes(name, (CHECKS | EXTRA_CHECKS)[name], board)
            ]
    except (GradsieveError, OSError) as error:
        progress.say(f"FAILED: {error}")
        return 1
    progress.say(f"FAILED: {', '.join(failed)}" if failed else f"passed on an emulated {options.cpu}")
    return 1 if failed else 0


class Progress:
    """Lines with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Print one line at once."""
        print(f"{time.monotonic() - self._began:6.0f} s  {text}", flush=True)

    def passes(self, name: str, check: Check, board: Board) -> bool:
        """Run one check and print what it measured, or why it failed."""
        self.say(f"{name}: {(check.__doc__ or '').partition(chr(10))[0]}")
        try:
            lines = check(board)
        except (AssertionError, GradsieveError) as error:
            self.say(f"  FAILED: {error}")
            return False
        for line in lines:
            self.say(f"  {line}")
        return True


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/test-aarch64", description=__doc__)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"of {', '.join([*CHECKS, *EXTRA_CHECKS])}")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"folder for the root, made once; default {CACHE}")
    parser.add_argument("--cpu", default=RASPBERRY_PI_4, help="one that qemu knows; default a Raspberry Pi 4's")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.checks if name not in CHECKS | EXTRA_CHECKS]
    if unknown:
        parser.error(f"no check is called {', '.join(unknown)}")
    options.cache = options.cache.resolve()
    if options.cache.is_relative_to(CHECKOUT):
        parser.error(f"--cache {options.cache}: lies in the checkout: name a folder elsewhere, by its whole path")
    options.checks = options.checks or list(CHECKS)
    return options


if __name__ == "__main__":
    sys.exit(main())
