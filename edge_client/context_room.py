"""What a Flower client keeps of a job between its messages, in its Context: update, residual, and history of sends."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
from flwr.app import ConfigRecord, Context

from edge_client.model_file import digest_of
from edge_client.pending import PendingUpdate
from edge_client.room import KeptModel, UpdateStore
from shared.bundle import Growth
from shared.errors import DigestMismatch
from shared.layout import F32, Layout

STATE = "gradsieve.job"


class ContextRoom:
    """`Room` in the state of `context`; `accepted` is the last round of this client's that counts.

    With that a verdict on the last update is always known: what the server does not know of by now never came.
    """

    def __init__(self, context: Context, run: str, accepted: int) -> None:
        self._updates = ContextUpdates(context, run, accepted)

    @property
    def updates(self) -> UpdateStore:
        """The last update."""
        return self._updates

    def model(self, layout: Layout) -> KeptModel:
        """No model is kept: every message brings it whole."""
        return PassingModel(layout)


class ContextUpdates:
    """`UpdateStore` in one ConfigRecord."""

    def __init__(self, context: Context, run: str, accepted: int) -> None:
        self._context, self._run, self._accepted = context, run, accepted

    def commit(self, update: PendingUpdate, residual: bytes | memoryview) -> None:
        """Replace update and residual."""
        self._context.state[STATE] = ConfigRecord(
            {
                "run": update.run,
                "server_round": update.server_round,
                "base": update.base,
                "steps": update.steps,
                "object": update.object,
                "plan": update.plan,
                "history": update.history,
                "noised": update.noised,
                "residual": bytes(residual),
                "after": b"",
            }
        )

    def read(self) -> PendingUpdate | None:
        """The last update of this run."""
        kept = self._kept()
        if kept is None:
            return None
        return PendingUpdate(
            self._run,
            cast(int, kept["server_round"]),
            cast(str, kept["base"]),
            cast(int, kept["steps"]),
            cast(bytes, kept["object"]),
            cast(bytes, kept["plan"]),
            cast(bytes, kept["history"]),
            cast(bool, kept["noised"]),
        )

    def read_residual(self) -> bytes:
        """The residual that goes with it."""
        kept = self._kept()
        return b"" if kept is None else cast(bytes, kept["residual"])

    def keep_history(self, after: bytes) -> None:
        """Keep the sends after the update."""
        record = cast(ConfigRecord, self._context.state[STATE])
        self._context.state[STATE] = ConfigRecord({**record, "after": after})

    def history(self) -> bytes:
        """What was kept."""
        kept = self._kept()
        return b"" if kept is None else cast(bytes, kept["after"])

    def verdict_on(self, update: PendingUpdate) -> bool:
        """Whether the server counts it."""
        return update.server_round == self._accepted

    def _kept(self) -> Mapping[str, object] | None:
        record = self._context.state.config_records.get(STATE)
        return record if record is not None and record["run"] == self._run else None


class PassingModel:
    """`KeptModel` that keeps nothing."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def begin(self, growth: Growth | None) -> None:
        """Nothing."""

    def load(self, digest: str) -> F32 | None:
        """None."""
        return None

    def digest(self) -> str | None:
        """None."""
        return None

    def replace(self, source: Path, digest: str) -> F32:
        """The model in `source`."""
        model = np.fromfile(source, "<f4")
        if model.size != self._layout.size or digest_of(model) != digest:
            raise DigestMismatch(f"a model of {4 * model.size} bytes is not the one with digest {digest[:16]}…")
        return model

    def advance(self, chain: Path, target: str) -> F32 | None:
        """None."""
        return None
