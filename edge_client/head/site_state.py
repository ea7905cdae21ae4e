"""What a head keeps of a run besides journal and pending update: its boards' histories, and what it owes upstream.

`histories.npz` holds the histories after round `round`. `owed.npz` holds the mean of a round whose updates were
accepted, but which never became an update of the head: it is part of the next one, and dropped once that is committed.
"""

import io
from pathlib import Path

import numpy as np

from coordinator.send_histories import SendHistories
from shared.durable_file import write_durably
from shared.layout import F32, Layout

ROUND, MEAN = "round", "mean"


class SiteState:
    """The two files in the folder of a run; both are replaced whole."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._histories_file, self._owed_file = folder / "histories.npz", folder / "owed.npz"
        self._layout = layout

    def histories(self) -> tuple[int, SendHistories]:
        """The boards' histories, and the round that they are after: 0 before any."""
        histories, kept = SendHistories(self._layout), _read(self._histories_file)
        if not kept:
            return 0, histories
        server_round = int(kept.pop(ROUND))
        histories.restore(kept)
        return server_round, histories

    def keep_histories(self, server_round: int, histories: SendHistories) -> None:
        """Replace the histories by those after a round."""
        _write(self._histories_file, {ROUND: np.array(server_round), **histories.state()})

    def owe(self, server_round: int, mean: F32) -> None:
        """Owe the mean of a round's accepted updates, on top of what is owed already."""
        before = self.owed(0)
        _write(self._owed_file, {ROUND: np.array(server_round), MEAN: mean if before is None else mean + before})

    def owed(self, committed_round: int) -> F32 | None:
        """What is owed, unless an update of a later round than it is from was committed: then it was part of that."""
        kept = _read(self._owed_file)
        if not kept:
            return None
        if committed_round > int(kept[ROUND]):
            self._owed_file.unlink()
            return None
        return np.asarray(kept[MEAN], np.float32)


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    write_durably(path, content.getvalue())
