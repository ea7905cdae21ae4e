"""What the run bought and what it paid: accuracy and bytes, over the rounds."""

from collections.abc import Callable, Sequence

from coordinator.report.chart import Chart, Level, Line, Post, Tone
from coordinator.report.history import History
from coordinator.report.markup import Html, details, table, tag
from coordinator.report.quantity import bytes_text, known, number, percent
from coordinator.report.scale import Axis
from coordinator.report.series import AccuracyPoint, RoundPoint, accuracy_points, thinned

MOST_ROWS = 60
NOT_JUDGED = "No device has judged a model on test data of its own, so there is no accuracy to show."
NOT_SENT = "No update has been counted yet, so there are no bytes to show."


def accuracy_section(history: History) -> Html:
    """Accuracy over rounds, and over the bytes that devices had sent by then."""
    points = accuracy_points(history.closed, history.accuracy)
    if not points:
        return tag("section", tag("h2", "Accuracy"), tag("p", NOT_JUDGED, class_="empty"))
    charts = tag("div", _over_rounds(history, points), _over_bytes(history, points), class_="pair")
    return tag("section", tag("h2", "Accuracy"), charts, _accuracy_table(points))


def bytes_section(history: History) -> Html:
    """Bytes of one update and of one round, beside what the dense codec would have taken."""
    points = [point for point in history.closed if point.updates and point.uplink_bytes]
    if not points:
        return tag("section", tag("h2", "Bytes"), tag("p", NOT_SENT, class_="empty"))
    charts = tag("div", _an_update(history, points), _a_round(history, points), class_="pair")
    return tag("section", tag("h2", "Bytes"), charts, _bytes_table(points))


def figure(chart: Chart) -> Html:
    """A chart below its title, its description in small print."""
    return tag("figure", tag("figcaption", tag("h3", chart.title), tag("p", chart.description)), chart.svg())


def line(label: str, points: Sequence[RoundPoint], of: Callable[[RoundPoint], float | None], tone: Tone = "a") -> Line:
    """A line over rounds of whatever `of` finds in a round."""
    found = [(float(point.server_round), value) for point in points if (value := of(point)) is not None]
    return Line(label, thinned(found), tone)


def _over_rounds(history: History, points: Sequence[AccuracyPoint]) -> Html:
    levels = _baselines(history)
    best = max(points, key=lambda point: point.accuracy)
    chart = Chart(
        name="accuracy-rounds",
        title="Accuracy, round by round",
        description="Mean over devices, each on its own test data; "
        f"best {percent(best.accuracy)} after round {best.server_round}.",
        x=Axis.rounds(points[-1].server_round),
        y=_accuracy_axis(points, levels),
        lines=[Line("together", thinned([(float(p.server_round), p.accuracy) for p in points]))],
        levels=levels,
    )
    return figure(chart)


def _over_bytes(history: History, points: Sequence[AccuracyPoint]) -> Html:
    each, levels = history.dense_update_bytes, _baselines(history)
    dense = (each or 0.0) * history.updates
    paid = [(point.uplink_bytes, point.accuracy) for point in points if point.uplink_bytes]
    posts = [Post(f"dense: {bytes_text(dense)}", dense)] if dense else []
    chart = Chart(
        name="accuracy-bytes",
        title="Accuracy for the bytes sent",
        description="Against all that devices had sent up by then"
        + (f"; the same {history.updates:,} updates would be {bytes_text(dense)} dense." if dense else "."),
        x=Axis.logarithmic("uplink, all devices together", [x for x, _ in paid] + [dense], bytes_text),
        y=_accuracy_axis(points, levels),
        lines=[Line("together", thinned(paid))],
        levels=levels,
        posts=posts,
    )
    return figure(chart)


def _baselines(history: History) -> list[Level]:
    named: list[tuple[str, str, Tone]] = [("pooled", "accuracy_pooled", "c"), ("alone", "accuracy_alone_mean", "b")]
    return [Level(label, history.summary[name], tone) for label, name, tone in named if name in history.summary]


def _accuracy_axis(points: Sequence[AccuracyPoint], levels: Sequence[Level]) -> Axis:
    shown = [point.accuracy for point in points] + [level.value for level in levels]
    return Axis.linear("accuracy", shown, lambda share: f"{100 * share:.0f} %")


def _accuracy_table(points: Sequence[AccuracyPoint]) -> Html:
    rows = [
        (str(point.server_round), percent(point.accuracy), bytes_text(point.uplink_bytes))
        for point in thinned(points, MOST_ROWS)
    ]
    return details("Accuracy as a table", table(("after round", "accuracy", "uplink until then"), rows))


def _an_update(history: History, points: Sequence[RoundPoint]) -> Html:
    dense = history.dense_update_bytes
    sent, coded = line("sent", points, _each), line("codec", points, lambda p: p.frame_bytes, "c")
    shown = [y for _, y in [*sent.points, *coded.points]] + ([dense] if dense else [])
    usual = sum(point.uplink_bytes for point in points) / sum(point.updates for point in points)
    chart = Chart(
        name="bytes-update",
        title="Bytes of one update",
        description=f"On average {bytes_text(usual)} sent, all MQTT packets counted"
        + (f", instead of {bytes_text(dense)} dense; the codec's frame is within that." if dense else "."),
        x=Axis.rounds(points[-1].server_round),
        y=Axis.logarithmic("bytes an update", shown, bytes_text),
        lines=[sent, coded],
        levels=[Level("dense", dense)] if dense else [],
    )
    return figure(chart)


def _a_round(history: History, points: Sequence[RoundPoint]) -> Html:
    each = history.dense_update_bytes
    up = line("up", points, lambda p: p.uplink_bytes)
    down = line("down", points, lambda p: p.published_bytes or None, "b")
    dense = line("dense up", points, lambda p: each * p.updates if each else None, "soft")
    shown = [y for _, y in [*up.points, *down.points, *dense.points]]
    chart = Chart(
        name="bytes-round",
        title="Bytes of one round",
        description="Up: what all devices sent. Down: what the coordinator published, once for all devices.",
        x=Axis.rounds(points[-1].server_round),
        y=Axis.logarithmic("bytes a round", shown, bytes_text),
        lines=[up, down, dense],
    )
    return figure(chart)


def _each(point: RoundPoint) -> float:
    return point.uplink_bytes / point.updates


def _bytes_table(points: Sequence[RoundPoint]) -> Html:
    rows = [
        (
            str(point.server_round),
            f"{point.updates} of {point.asked}",
            bytes_text(point.uplink_bytes),
            bytes_text(_each(point)),
            bytes_text(point.published_bytes),
            known(point.train_loss, number),
        )
        for point in thinned(points, MOST_ROWS)
    ]
    return details("Bytes as a table", table(("round", "updates", "up", "an update", "published", "train loss"), rows))
