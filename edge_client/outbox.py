"""The device's state directory: bundles, the files of each run, unsettled updates, the count of connections.

state/
  connection            how often this device has started, as text
  upload-days.json      bytes of updates sent by day, where the policy limits them
  privacy.json          what noised updates have cost, where the policy asks for noise
  bundles/{digest}.gsb  verified archives
  runs/{run}/           the trainer's model and pending update, the verdict, and what was fetched for a round
"""

import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_client.pending import PendingStore, PendingUpdate
from edge_client.upload_days import read_days, write_days
from shared.durable_file import write_durably
from shared.errors import SettingsError

MOST_BUNDLES = 4
MOST_SETTLED_RUNS = 4
"""Runs kept over a restart without an unsettled update; the end of others may have been missed."""
LONGEST_COUNT = 15
"""Digits of the count of connections, which so stays within what a birth may say."""
RUN_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StatePaths:
    """Where things lie below a state directory; it only names files and never touches them."""

    root: Path

    def bundle(self, digest: str) -> Path:
        """A verified bundle's archive."""
        return self.root.joinpath("bundles", f"{digest}.gsb")

    @property
    def upload_days(self) -> Path:
        """The bytes of updates sent by day."""
        return self.root / "upload-days.json"

    def run(self, run: str) -> Path:
        """The folder of a run."""
        return self.root.joinpath("runs", run)

    def received(self, run: str, what: str) -> Path:
        """An object that was fetched for the open round of `run`: its `model` or `plan`, or the `chain` of deltas."""
        return self.root.joinpath("runs", run, f"received-{what}.bin")


@dataclass(frozen=True)
class Recovered:
    """What an agent finds when it starts: bundles it need not fetch, updates to offer, rounds that are settled."""

    bundles: frozenset[str] = frozenset()
    unsettled: tuple[PendingUpdate, ...] = ()
    settled_rounds: tuple[tuple[str, int], ...] = ()


class Outbox:
    """Reads and writes the files of a state directory; raises `SettingsError` when the directory cannot be used."""

    def __init__(self, root: Path) -> None:
        self.paths = StatePaths(root)
        try:
            (root / "bundles").mkdir(parents=True, exist_ok=True)
            (root / "runs").mkdir(exist_ok=True)
            for leftover in root.rglob("*.tmp"):
                leftover.unlink()
        except OSError as error:
            raise SettingsError(
                f"state directory {root}: {error.strerror}: choose a folder this user can write"
            ) from None

    def next_connection(self) -> int:
        """One more than the last time, kept on disk: the broker's will of an earlier life must be recognisable."""
        counter = self.paths.root / "connection"
        text = counter.read_bytes()[:LONGEST_COUNT] if counter.exists() else b""
        number = int(text) + 1 if text.isdigit() else 1
        write_durably(counter, str(number).encode())
        return number

    def recover(self, *, private: bool = False) -> Recovered:
        """What earlier lives of the agent left behind; of runs with nothing to offer only the last used are kept.

        Where the device is now to be `private`, an update without noise counts as refused and is never sent.
        """
        unsettled: list[PendingUpdate] = []
        settled: dict[str, int | None] = {}
        for folder in self._runs_by_age():
            update = PendingStore(folder).read()
            if update is None or update.run != folder.name:
                settled[folder.name] = None
            elif PendingStore(folder).verdict_on(update) is None and private and not update.noised:
                self.settle(update.run, update.server_round, accepted=False)
                settled[folder.name] = update.server_round
            elif PendingStore(folder).verdict_on(update) is None:
                unsettled.append(update)
            else:
                settled[folder.name] = update.server_round
        for run in list(settled)[:-MOST_SETTLED_RUNS]:
            self.forget(run)
            del settled[run]
        bundles = (path.stem for path in (self.paths.root / "bundles").glob("*.gsb"))
        return Recovered(
            frozenset(b for b in bundles if DIGEST.fullmatch(b)),
            tuple(unsettled),
            tuple((run, server_round) for run, server_round in settled.items() if server_round is not None),
        )

    def upload_days(self) -> dict[str, int]:
        """The bytes of updates sent by day, as they were kept; raises `SettingsError` where the file is damaged."""
        file = self.paths.upload_days
        try:
            return read_days(file)
        except ValueError as error:
            raise SettingsError(f"{file}: damaged ({error}): restore it, or delete it to count from 0") from None

    def pending(self, run: str) -> PendingUpdate | None:
        """The run's update that still waits for a verdict."""
        return PendingStore(self.paths.run(run)).unsettled()

    def settle(self, run: str, server_round: int, accepted: bool) -> None:
        """Record the final verdict on a run's pending update."""
        self.paths.run(run).mkdir(exist_ok=True)
        PendingStore(self.paths.run(run)).settle(server_round, accepted)

    def keep_upload_days(self, days: Mapping[str, int]) -> None:
        """Keep the bytes of updates sent by day."""
        write_days(self.paths.upload_days, dict(days))

    def keep(self, path: Path, content: bytes) -> None:
        """Write a fetched object, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, content)

    def keep_bundle(self, digest: str, archive: bytes) -> None:
        """Keep a verified bundle and drop those that were not used for longest."""
        kept = self.paths.bundle(digest)
        self.keep(kept, archive)
        # whatever a clock without a battery says, the new one is not the oldest
        others = sorted((path for path in kept.parent.glob("*.gsb") if path != kept), key=_last_use)
        for old in others[: 1 - MOST_BUNDLES]:
            old.unlink()

    def use_bundle(self, path: Path) -> None:
        """Note that an archive is used now; the one that is not there is for the trainer to name."""
        with suppress(OSError):
            os.utime(path)

    def drop_bundle(self, digest: str) -> None:
        """Forget an archive that turned out to be unusable."""
        self.paths.bundle(digest).unlink(missing_ok=True)

    def forget(self, run: str) -> None:
        """Drop every file of a run that ended."""
        shutil.rmtree(self.paths.run(run), ignore_errors=True)

    def _runs_by_age(self) -> list[Path]:
        """The folders of runs, last used last."""
        folders = (self.paths.root / "runs").iterdir()
        return sorted((path for path in folders if RUN_NAME.fullmatch(path.name) and path.is_dir()), key=_last_use)


def _last_use(path: Path) -> int:
    return path.stat().st_mtime_ns
