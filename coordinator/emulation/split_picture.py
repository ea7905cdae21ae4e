"""A picture of who has what: a column for each device, as high as it has examples, a colour for each class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coordinator.report.markup import Html, tag
from shared.layout import I64

WIDTH, HEIGHT, MARGIN = 960, 300, 46
MOST_COLUMNS = 240
"""More devices share a column, which then shows their mean."""
COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#8c6d1f", "#6b4fa0", "#4d4d4d", "#f0e442",
)  # fmt: skip
"""The colours of Okabe and Ito, which colour-blind readers tell apart, and four more; beyond ten they begin again."""
STYLE = (
    "svg{background:#fff;font:13px system-ui,sans-serif}text{fill:#444}"
    "@media (prefers-color-scheme:dark){svg{background:#1b1f24}text{fill:#c9ced4}}"
)

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class SplitFigures:
    """A split in numbers.

    `counts` int64 `[devices, classes]`, devices with most examples first. `distance` is the mean total variation of a
    device's mixture of classes from that of all, 0 where all are alike, towards 1 where each has classes of its own.
    """

    counts: Counts

    @classmethod
    def of(cls, labels: I64, parts: Sequence[I64]) -> "SplitFigures":
        """The figures of a split of examples with class labels from 0 up."""
        classes = int(labels.max()) + 1
        counts = np.stack([np.bincount(labels[part], minlength=classes) for part in parts])
        return cls(counts[np.argsort(-counts.sum(1), kind="stable")])

    @property
    def sizes(self) -> Counts:
        """Examples of each device, most first: int64 `[devices]`."""
        return np.asarray(self.counts.sum(1))

    @property
    def distance(self) -> float:
        """The mean total variation."""
        whole = self.counts.sum(0) / self.counts.sum()
        own = self.counts / np.maximum(self.sizes, 1)[:, np.newaxis]
        return float(np.abs(own - whole).sum(1).mean() / 2)

    def to_json(self) -> dict[str, float]:
        """For scripts."""
        sizes, held = self.sizes, (self.counts > 0).sum(1)
        return {
            "clients": len(sizes),
            "examples": int(sizes.sum()),
            "least": int(sizes.min()),
            "median": float(np.median(sizes)),
            "most": int(sizes.max()),
            "classes": self.counts.shape[1],
            "classes_a_client": round(float(held.mean()), 2),
            "distance": round(self.distance, 3),
        }


def split_svg(figures: SplitFigures, title: str) -> str:
    """An SVG file, light or dark as its reader has it."""
    groups = np.array_split(figures.counts, min(len(figures.counts), MOST_COLUMNS))
    heights = np.stack([group.mean(0) for group in groups])
    most = float(heights.sum(1).max())
    step = (WIDTH - 2 * MARGIN) / len(heights)
    scale, floor = (HEIGHT - 2 * MARGIN) / most, HEIGHT - MARGIN
    bars = []
    for kind in range(heights.shape[1]):
        feet = heights[:, :kind].sum(1)
        drawn = [
            f"M{MARGIN + n * step:.2f} {floor - (foot + part) * scale:.2f}h{step * 0.92:.2f}v{part * scale:.2f}"
            f"h{-step * 0.92:.2f}z"
            for n, (foot, part) in enumerate(zip(feet.tolist(), heights[:, kind].tolist(), strict=True))
            if part > 0
        ]
        bars.append(tag("path", tag("title", f"class {kind}"), d="".join(drawn), fill=COLOURS[kind % len(COLOURS)]))
    return tag(
        "svg",
        tag("style", Html(STYLE)),
        tag("title", title),
        tag("text", title, x=MARGIN, y=22, font_weight=600),
        *bars,
        *_labels(figures, most, len(groups)),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )


def _labels(figures: SplitFigures, most: float, columns: int) -> list[Html]:
    devices, floor = len(figures.counts), HEIGHT - MARGIN
    a_column = "" if columns == devices else f", {devices / columns:.0f} a column"
    facts = figures.to_json()
    words = f"{facts['classes_a_client']:g} of {facts['classes']} classes each, distance {facts['distance']:.2f}"
    return [
        tag("text", f"{most:,.0f}", x=MARGIN - 6, y=MARGIN + 4, text_anchor="end"),
        tag("text", "0", x=MARGIN - 6, y=floor + 4, text_anchor="end"),
        tag("text", f"{devices:,} devices, most examples first{a_column}", x=MARGIN, y=floor + 24),
        tag("text", words, x=WIDTH - MARGIN, y=floor + 24, text_anchor="end"),
    ]
