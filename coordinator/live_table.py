"""What a person watches while a run goes on: a live table on a terminal, plain lines when piped."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from coordinator.records import RoundRecord
from coordinator.run import Progress

BARS = "▁▂▃▄▅▆▇█"
MOST_ROWS = 12


@dataclass
class LiveTable:
    """Takes finished rounds and the current phase; draws at most eight times a second."""

    title: str
    rounds: int
    dense_update_bytes: int = 0
    console: Console = field(default_factory=Console)
    _rows: list[RoundRecord] = field(default_factory=list)
    _phase: str = "starting"
    _live: Live | None = None
    _began: float = field(default_factory=time.monotonic)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw until the block ends."""
        if not self.console.is_terminal:
            yield
            return
        with Live(self._draw(), console=self.console, refresh_per_second=8) as live:
            self._live = live
            yield
            live.update(self._draw())

    def say(self, text: str) -> None:
        """One line above the table, or of its own."""
        self.console.print(f"{self._elapsed()}  {text}", highlight=False, soft_wrap=True)

    def progress(self, progress: Progress) -> None:
        """Show what the run is doing; without a table, a line says what is waited for."""
        round_ = f"round {progress.server_round}/{self.rounds}: " if progress.server_round else ""
        self._phase = round_ + progress.phase
        if self._live is None and progress.phase.startswith("waiting"):
            self.say(self._phase)
        self._update()

    def closed(self, record: RoundRecord) -> None:
        """Show a finished round."""
        self._rows.append(record)
        if self._live is None:
            self.say(_line(record, self.rounds, self.dense_update_bytes))
        self._update()

    def _update(self) -> None:
        if self._live is not None:
            self._live.update(self._draw())

    def _draw(self) -> Group:
        table = Table(title=self.title, title_justify="left", expand=False)
        for name in ("round", "updates", "train loss", "accuracy", "up kB", "per update", "vs dense"):
            table.add_column(name, justify="right")
        for record in self._rows[-MOST_ROWS:]:
            table.add_row(*_cells(record, self.dense_update_bytes))
        return Group(table, Text(self._course()), Text(f"{self._elapsed()}  {self._phase}"))

    def _course(self) -> str:
        """The accuracies as bars; where there are none, as of labels that are numbers, the training losses."""
        for figure, name in (("base_accuracy", "accuracy"), ("train_loss", "train loss")):
            if found := [record.figures[figure] for record in self._rows if figure in record.figures]:
                return f"{name} {sparkline(found)}"
        return ""

    def _elapsed(self) -> str:
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60:02d}:{seconds % 60:02d}"


def sparkline(values: list[float], width: int = 60) -> str:
    """The last values as a line of bars, from the lowest to the highest among them."""
    shown = values[-width:]
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    span = (high - low) or 1.0
    return "".join(BARS[int((value - low) / span * (len(BARS) - 1))] for value in shown)


def _cells(record: RoundRecord, dense_update_bytes: int) -> tuple[str, ...]:
    figures = record.figures
    updates, uplink = figures.get("updates", 0.0), figures.get("uplink_bytes", 0.0)
    each = uplink / updates if updates else 0.0
    return (
        str(record.server_round),
        f"{updates:.0f}/{len(record.cohort)}",
        _loss_text(figures["train_loss"]) if "train_loss" in figures else "-",
        f"{figures['base_accuracy']:.3f}" if "base_accuracy" in figures else "-",
        f"{uplink / 1000:.1f}",
        f"{each:.0f} B",
        f"{dense_update_bytes / each:.0f}x" if each else "-",
    )


def _loss_text(loss: float) -> str:
    """Three decimals where these say something; the losses of numbers may be of any size."""
    return f"{loss:.3f}" if 0.01 <= abs(loss) < 1000 else f"{loss:.3g}"


def _line(record: RoundRecord, rounds: int, dense_update_bytes: int) -> str:
    number, updates, loss, accuracy, uplink, each, ratio = _cells(record, dense_update_bytes)
    judged = "" if accuracy == "-" else f"accuracy {accuracy}  "
    return (f"round {number}/{rounds}  updates {updates}  loss {loss}  {judged}"
            f"up {uplink} kB  {each} an update  {ratio} less than dense")  # fmt: skip
