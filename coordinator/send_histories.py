"""What the coordinator knows of each device's sends, for as long as the device comes back."""

from collections.abc import Iterator, Mapping

import numpy as np

from coordinator.block_history import Arrays
from shared.compression.history import SendHistory
from shared.layout import Layout

ROUNDS_KEPT = 256
"""Rounds without an accepted update after which a history is dropped; a device that comes later begins a new one."""

IDLE = "idle"
OF_DEVICE = "of."


class SendHistories:
    """The history of each device that was heard of lately, and for how many rounds it has been silent since."""

    def __init__(self, layout: Layout, rounds_kept: int = ROUNDS_KEPT) -> None:
        self._layout, self._rounds_kept = layout, rounds_kept
        self._histories: dict[str, SendHistory] = {}
        self._idle_rounds: dict[str, int] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._histories)

    def __len__(self) -> int:
        return len(self._histories)

    def of(self, device: str) -> SendHistory:
        """A device's sends before this round; an empty history where none is known."""
        return self._histories.get(device) or SendHistory.empty(self._layout)

    def advance(self, advanced: Mapping[str, SendHistory]) -> None:
        """End a round in which the updates of these devices were accepted, and drop what has been idle for too long."""
        self._histories |= advanced
        idle = {device: 0 if device in advanced else 1 + self._idle_rounds[device] for device in self._histories}
        self._idle_rounds = {device: rounds for device, rounds in idle.items() if rounds <= self._rounds_kept}
        self._histories = {device: self._histories[device] for device in self._idle_rounds}

    def clear(self) -> None:
        """Forget all: every device begins anew."""
        self._histories, self._idle_rounds = {}, {}

    def state(self) -> Arrays:
        """The arrays that a checkpoint keeps."""
        devices = sorted(self._histories)
        state: Arrays = {
            OF_DEVICE + name: np.frombuffer(self._histories[name].to_bytes(), np.uint8) for name in devices
        }
        return state | {IDLE: np.array([self._idle_rounds[name] for name in devices], np.int64)}

    def restore(self, state: Arrays) -> None:
        """Continue from `state()`, bit for bit; raises `DecodeError` where it is of another layout."""
        saved = {name.removeprefix(OF_DEVICE): state[name] for name in sorted(state) if name.startswith(OF_DEVICE)}
        self._histories = {k: SendHistory.from_bytes(v.tobytes(), self._layout) for k, v in saved.items()}
        self._idle_rounds = dict(zip(self._histories, state[IDLE].tolist(), strict=True))
