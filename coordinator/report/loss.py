"""The loss over rounds and bytes, of runs whose labels are numbers: there is no accuracy to show."""

from collections.abc import Sequence
from itertools import accumulate

from coordinator.report.chart import Chart, Level, Line
from coordinator.report.history import History
from coordinator.report.markup import Html, details, table, tag
from coordinator.report.progress import figure
from coordinator.report.quantity import bytes_text, number
from coordinator.report.scale import Axis
from coordinator.report.series import RoundPoint, thinned

MOST_ROWS = 60


def loss_section(history: History) -> Html | None:
    """The mean training loss over rounds, and over the bytes that devices had sent by then; None if nobody told it."""
    spent = accumulate(point.uplink_bytes for point in history.closed)
    points = [
        (point, point.train_loss, paid)
        for point, paid in zip(history.closed, spent, strict=True)
        if point.train_loss is not None
    ]
    if not points:
        return None
    charts = tag("div", figure(_over_rounds(history, points)), figure(_over_bytes(history, points)), class_="pair")
    return tag("section", tag("h2", "Loss"), charts, _table(points))


Points = Sequence[tuple[RoundPoint, float, float]]


def _over_rounds(history: History, points: Points) -> Chart:
    best, least, _ = min(points, key=lambda point: point[1])
    return Chart(
        name="loss-rounds",
        title="Training loss, round by round",
        description=f"Mean over devices, each on its own data; least {number(least)} in round {best.server_round}.",
        x=Axis.rounds(points[-1][0].server_round),
        y=_axis(history, points),
        lines=[Line("training", thinned([(float(point.server_round), loss) for point, loss, _ in points]))],
        levels=_levels(history),
    )


def _over_bytes(history: History, points: Points) -> Chart:
    paid = [(spent, loss) for _, loss, spent in points if spent]
    return Chart(
        name="loss-bytes",
        title="Training loss for the bytes sent",
        description="Against all that devices had sent up by then.",
        x=Axis.logarithmic("uplink, all devices together", [x for x, _ in paid], bytes_text),
        y=_axis(history, points),
        lines=[Line("training", thinned(paid))],
        levels=_levels(history),
    )


def _levels(history: History) -> list[Level]:
    """The final model's loss on test data."""
    return [] if history.loss is None else [Level("final, on test data", history.loss, "b")]


def _axis(history: History, points: Points) -> Axis:
    return Axis.linear("loss", [loss for _, loss, _ in points] + [level.value for level in _levels(history)], number)


def _table(points: Points) -> Html:
    rows = [
        (str(point.server_round), number(loss), bytes_text(spent)) for point, loss, spent in thinned(points, MOST_ROWS)
    ]
    return details("Loss as a table", table(("round", "training loss", "uplink until then"), rows))
