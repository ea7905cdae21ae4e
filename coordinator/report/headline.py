"""The top of the page: what was trained, and the figures that matter most."""

from dataclasses import dataclass

from coordinator.records import RunState
from coordinator.report.history import History
from coordinator.report.markup import Html, join, shortened, tag
from coordinator.report.quantity import bytes_text, count_text, number, percent, ratio_text, seconds_text

COLUMNS = (1, 1, 2, 3, 4, 5, 3)
"""Of a wide page, for so many figures."""


@dataclass(frozen=True)
class Figure:
    """One big figure, what it is, and a remark in small print."""

    name: str
    value: str
    remark: str


def headline(history: History) -> Html:
    """Name, one sentence, the run's error if it has one, and up to six figures."""
    parts = [tag("h1", history.run.run), tag("p", _sentence(history), class_="lead")]
    if trouble := _trouble(history):
        parts.append(tag("p", trouble, class_="trouble"))
    cards = [_card(figure) for figure in figures(history)] if history.points else []
    if cards:
        parts.append(tag("dl", *cards, class_=f"figures in-{COLUMNS[len(cards)]}"))
    return join(parts)


def figures(history: History) -> list[Figure]:
    """The figures that are known, most wanted first."""
    found = (_accuracy(history), _uplink(history), _downlink(history), _memory(history), _duration(history),
             _refused(history))  # fmt: skip
    return [figure for figure in found if figure is not None]


def _card(figure: Figure) -> Html:
    value, remark = tag("dd", figure.value), tag("dd", figure.remark, class_="remark")
    return tag("div", tag("dt", figure.name), value, remark)


def _sentence(history: History) -> str:
    job, closed, devices = history.job, len(history.closed), len(history.contributions.devices)
    task = f"\N{LEFT DOUBLE QUOTATION MARK}{job.task}\N{RIGHT DOUBLE QUOTATION MARK}" if job else "a task"
    if history.layout:
        task += f", a model of {count_text(history.layout.size)} values,"
    if not devices:
        return f"To train {task} in {_counted(job.rounds if job else 0, 'round')}. No device has been asked yet."
    unfinished = history.run.state is not RunState.FINISHED
    rounds = f"{closed} of {_counted(job.rounds, 'round')}" if job and unfinished else _counted(closed, "round")
    doing = "so far trained" if history.run.state is RunState.RUNNING else "trained"
    return f"{_counted(devices, 'device')} {doing} {task} in {rounds}. All data stayed where it was recorded."


def _counted(count: int, noun: str) -> str:
    return f"{count_text(count)} {noun}{'' if count == 1 else 's'}"


def _trouble(history: History) -> str:
    if history.run.error:
        return f"The run {history.run.state}: {shortened(history.run.error)}"
    errors = [event.text for event in history.events if event.kind == "error"]
    if errors and history.run.state is not RunState.FINISHED:
        return f"The run stopped: {shortened(errors[-1])}"
    return ""


def _accuracy(history: History) -> Figure | None:
    accuracy = history.accuracy
    before = [(p.server_round, p.accuracy_before) for p in history.points if p.accuracy_before is not None]
    pooled, alone = history.summary.get("accuracy_pooled"), history.summary.get("accuracy_alone_mean")
    against = [f"alone {percent(alone)}"] if alone is not None else []
    against += [f"all data in one place {percent(pooled)}"] if pooled is not None else []
    if accuracy is not None:
        return Figure("Accuracy together", percent(accuracy), ", ".join(against) or "the final model, on all devices")
    if before:
        return Figure("Accuracy so far", percent(before[-1][1]), f"before round {before[-1][0]}")
    return _loss(history)


def _loss(history: History) -> Figure | None:
    if history.loss is not None:
        return Figure("Loss together", number(history.loss), "the final model, on all devices' test data")
    told = [(point.server_round, point.train_loss) for point in history.closed if point.train_loss is not None]
    return Figure("Training loss so far", number(told[-1][1]), f"in round {told[-1][0]}") if told else None


def _uplink(history: History) -> Figure | None:
    spent, each = history.uplink_bytes, history.dense_update_bytes
    if not spent or not history.updates:
        return None
    dense = history.summary.get("dense_uplink_bytes") or (each or 0.0) * history.updates
    measured = "measured" if "dense_uplink_bytes" in history.summary else "at 4 bytes a value"
    less = f"{ratio_text(dense / spent)} less than dense: {bytes_text(dense)}, {measured}"
    return Figure("Uplink, all devices", bytes_text(spent), less if dense else "whole MQTT packets")


def _downlink(history: History) -> Figure | None:
    spent, ratio = history.summary.get("downlink_bytes"), history.summary.get("downlink_ratio")
    if spent:
        less = f"{ratio_text(ratio)} less than dense" if ratio else "whole MQTT packets"
        return Figure("Downlink, all devices", bytes_text(spent), less)
    published = sum(point.published_bytes for point in history.points)
    return Figure("Published", bytes_text(published), "by the coordinator, once for all devices") if published else None


def _memory(history: History) -> Figure | None:
    peak_mb = history.summary.get("client_peak_rss_mb_max")
    return Figure("Largest client", f"{peak_mb:.0f} MB", "peak memory, agent and trainer") if peak_mb else None


def _duration(history: History) -> Figure | None:
    run, wall = history.run, history.summary.get("wall_seconds")
    if run.ended_seconds is None:
        return None
    seconds = run.ended_seconds - run.created_seconds
    if wall and "virtual_seconds" in history.summary:
        return Figure("Duration", seconds_text(seconds), f"of the emulated fleet; here it took {seconds_text(wall)}")
    remark = f"{seconds_text(wall)} with baselines and comparison" if wall else "from start to end"
    return Figure("Duration", seconds_text(seconds), remark)


def _refused(history: History) -> Figure:
    refused = sum(refusal.times for refusal in history.refusals)
    return Figure("Refused uploads", count_text(refused), f"{count_text(history.updates)} updates accepted")
