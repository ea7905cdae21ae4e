"""Strips: rows of small columns over the rounds, stretched to the width of the page, names and figures beside them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from coordinator.report.markup import Html, tag

TALL = 20
HEAT_STEPS = 8


@dataclass(frozen=True)
class Row:
    """A strip with its name to the left and a figure to the right; `description` says in words what it shows."""

    name: str
    strip: Html
    figure: str


def stacked(stacks: Sequence[Sequence[float]], tones: Sequence[str], description: str) -> Html:
    """Columns of shares, each stack from its foot upwards in `tones`; what is left to 1 stays empty."""
    levels = [[round(TALL * sum(stack[: n + 1])) for n in range(len(tones))] for stack in stacks]
    return _strip(
        (_path(((level[n - 1] if n else 0, level[n]) for level in levels), tone) for n, tone in enumerate(tones)),
        len(stacks),
        description,
    )


def heat(figures: Sequence[float], description: str) -> Html:
    """Columns of full height, the deeper the nearer a figure is to 1; 0 and below stays empty."""
    steps = [min(HEAT_STEPS, int(figure * HEAT_STEPS) + 1) if figure > 0 else 0 for figure in figures]
    return _strip(
        (
            _path(((0, TALL if step == wanted else 0) for step in steps), f"heat-{wanted}")
            for wanted in range(1, HEAT_STEPS + 1)
            if wanted in steps
        ),
        len(figures),
        description,
    )


def board(rows: Iterable[Row], heads: tuple[str, str, str], rounds: Sequence[int]) -> Html:
    """The rows below their heads, and below them the rounds."""
    name, over, figure = heads
    lines = [tag("div", tag("span", name), tag("span", over), tag("span", figure), class_="row head")]
    lines += [
        tag("div", tag("span", row.name, class_="of", title=row.name), row.strip, tag("span", row.figure), class_="row")
        for row in rows
    ]
    ends = [f"round {rounds[0]}", *([str(rounds[-1])] if len(rounds) > 1 else [])]
    lines.append(tag("div", tag("span"), tag("span", *(tag("i", end) for end in ends), class_="ends"), tag("span"),
                     class_="row foot"))  # fmt: skip
    return tag("div", *lines, class_="board")


def legend(entries: Sequence[tuple[str, str]]) -> Html:
    """What the tones mean: pairs of tone and words."""
    return tag("p", *(tag("span", tag("b", class_=tone), words) for tone, words in entries), class_="legend")


def _strip(paths: Iterable[Html], count: int, description: str) -> Html:
    return tag(
        "svg",
        tag("title", description),
        *paths,
        viewBox=f"0 0 {max(count, 1)} {TALL}",
        preserveAspectRatio="none",
        role="img",
        class_="strip",
    )


def _path(spans: Iterable[tuple[int, int]], tone: str) -> Html:
    """Bars from foot to head, neighbours of equal height as one; an empty path where there are none."""
    drawn, place = [], 0
    for (foot, head), equals in groupby(spans):
        width = len(list(equals))
        if head > foot:
            drawn.append(f"M{place} {TALL - head}h{width}v{head - foot}h-{width}z")
        place += width
    return tag("path", d="".join(drawn), class_=tone) if drawn else Html("")
