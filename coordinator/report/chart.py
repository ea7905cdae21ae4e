"""Line charts as inline SVG: a few lines with their names beside their ends, levels and posts for reference."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from coordinator.report.markup import Html, join, tag
from coordinator.report.scale import Axis

WIDTH, HEIGHT = 440, 290
LEFT, RIGHT, TOP, BOTTOM = 60, 82, 32, 46
LABEL_GAP = 17
LONG_SHARE = 0.9
LEADER_WIDTH = 22
DOT_RADIUS = 3.5

Tone = Literal["a", "b", "c", "soft"]
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """A named line; its colour is the page's variable `tone`."""

    label: str
    points: Sequence[Point]
    tone: Tone = "a"


@dataclass(frozen=True)
class Level:
    """A dashed horizontal at one figure of the y axis."""

    label: str
    value: float
    tone: Tone = "soft"


@dataclass(frozen=True)
class Post:
    """A dashed vertical at one figure of the x axis."""

    label: str
    value: float


@dataclass(frozen=True)
class Band:
    """The area between two figures at each place of the x axis."""

    points: Sequence[tuple[float, float, float]]
    tone: Tone = "a"


@dataclass(frozen=True)
class Chart:
    """What to draw; `name` is unique on the page, `description` says in words what the picture shows."""

    name: str
    title: str
    description: str
    x: Axis
    y: Axis
    lines: Sequence[Line]
    levels: Sequence[Level] = ()
    posts: Sequence[Post] = ()
    bands: Sequence[Band] = field(default=())

    def svg(self) -> Html:
        """The picture, which scales with its frame."""
        heads = (f"{self.name}-title", f"{self.name}-text")
        return tag(
            "svg",
            tag("title", self.title, id=heads[0]),
            tag("desc", self.description, id=heads[1]),
            *self._grid(),
            *(self._band(band) for band in self.bands),
            *(self._level(level) for level in self.levels),
            *(self._post(post) for post in self.posts),
            *(self._line(line) for line in self.lines if line.points),
            *self._names(),
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            role="img",
            aria_labelledby=" ".join(heads),
            class_="chart",
        )

    def _across(self, value: float) -> float:
        return LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT)

    def _down(self, value: float) -> float:
        return HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - TOP - BOTTOM)

    def _grid(self) -> list[Html]:
        right, floor = WIDTH - RIGHT, HEIGHT - BOTTOM
        parts = []
        for tick in self.y.ticks():
            y = self._down(tick)
            parts.append(_segment(LEFT, y, right, y, "grid"))
            parts.append(tag("text", self.y.written(tick), x=LEFT - 7, y=y + 4, class_="tick end"))
        for tick in self.x.ticks():
            x = self._across(tick)
            parts.append(_segment(x, floor, x, floor + 4, "axis"))
            parts.append(tag("text", self.x.written(tick), x=x, y=floor + 18, class_="tick middle"))
        parts.append(_segment(LEFT, floor, right, floor, "axis"))
        parts.append(tag("text", self.y.label, x=4, y=14, class_="axis-name"))
        parts.append(tag("text", self.x.label, x=(LEFT + right) / 2, y=HEIGHT - 6, class_="axis-name middle"))
        return parts

    def _line(self, line: Line) -> Html:
        places = [(self._across(x), self._down(y)) for x, y in line.points]
        last = tag("circle", cx=places[-1][0], cy=places[-1][1], r=DOT_RADIUS, class_=f"dot {line.tone}")
        return join([tag("polyline", points=_points(places), class_=f"line {line.tone}"), last])

    def _band(self, band: Band) -> Html:
        low = [(self._across(x), self._down(y)) for x, y, _ in band.points]
        high = [(self._across(x), self._down(y)) for x, _, y in band.points]
        return tag("polygon", points=_points([*low, *reversed(high)]), class_=f"band {band.tone}")

    def _level(self, level: Level) -> Html:
        y = self._down(level.value)
        return _segment(LEFT, y, WIDTH - RIGHT, y, f"level {level.tone}")

    def _post(self, post: Post) -> Html:
        x = self._across(post.value)
        name = tag("text", post.label, x=x - 6, y=HEIGHT - BOTTOM - 8, class_="name soft end")
        return join([_segment(x, TOP, x, HEIGHT - BOTTOM, "level soft"), name])

    def _names(self) -> list[Html]:
        """Names right of the plot, near their lines' ends; short lines have theirs below, several in a column."""
        long = [line for line in self.lines if line.points and not self._short(line)]
        named = [(self._down(line.points[-1][1]), line.label, line.tone) for line in long]
        named += [(self._down(level.value), level.label, level.tone) for level in self.levels]
        named.sort(key=lambda entry: entry[0])
        places = spread([y for y, _, _ in named], LABEL_GAP, TOP, HEIGHT - BOTTOM)
        names = [_name(WIDTH - RIGHT + 8, y + 4, *name) for y, (_, *name) in zip(places, named, strict=True)]
        short = [line for line in self.lines if self._short(line)]
        return names + (self._listed(short) if len(short) > 1 else [self._below(line) for line in short])

    def _below(self, line: Line) -> Html:
        x, y = line.points[-1]
        return _name(self._across(x) + 6, self._down(y) + LABEL_GAP, line.label, line.tone)

    def _listed(self, lines: Sequence[Line]) -> list[Html]:
        """The names of lines that end far from the right, in a column beside their ends, each led to its own."""
        ends = [(self._down(y), self._across(x), line) for line in lines for x, y in line.points[-1:]]
        ends.sort(key=lambda end: end[:2])
        column = max(x for _, x, _ in ends) + LEADER_WIDTH
        places = spread([y for y, _, _ in ends], LABEL_GAP, TOP, HEIGHT - BOTTOM)
        parts = []
        for place, (y, x, line) in zip(places, ends, strict=True):
            parts.append(_segment(x, y, column - 3, place, "axis"))
            parts.append(_name(column, place + 4, line.label, line.tone))
        return parts

    def _short(self, line: Line) -> bool:
        """True when a line ends well before the right end of the plot."""
        return bool(line.points) and self.x.share(line.points[-1][0]) < LONG_SHARE


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Rising places moved as little as a sweep down and one up need to keep `gap` apart, within `low` to `high`."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap if moved else low))
    limit = high
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], limit)
        limit = moved[index] - gap
    return moved


def _segment(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def _name(x: float, y: float, label: str, tone: str) -> Html:
    return tag("text", label, x=x, y=y, class_=f"name {tone}")


def _points(places: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
