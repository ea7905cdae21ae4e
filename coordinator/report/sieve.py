"""The sieve over time: how the plan divides each layer, what was sent of it, and above which threshold."""

import math
from collections.abc import Sequence

import numpy as np

from coordinator.report.chart import Band, Chart
from coordinator.report.history import MOST_COLUMNS, History, every
from coordinator.report.layers import Shares
from coordinator.report.markup import Html, details, join, table, tag
from coordinator.report.progress import figure, line
from coordinator.report.quantity import DASH, count_text, known, number, percent
from coordinator.report.scale import Axis
from coordinator.report.series import RoundPoint, columns, mean, thinned
from coordinator.report.strip import Row, board, heat, legend, stacked

MOST_LAYERS = 24
OCTAVES_SHOWN = 8.0
"""How far below the most sent layer the least shown shade lies."""
NO_SIEVE = "No round has closed yet, so there is nothing to show of the sieve."
DEEPER = "The deeper, the larger the share of the layer's values: each shade is a doubling, the deepest is"
TONES = [("key", "key: dense, coded by itself"), ("sparse", "sparse: few values"), ("dead", "dead: nothing expected")]


def sieve_section(history: History) -> Html:
    """Plan and values layer by layer, then threshold and counts over rounds."""
    points = [point for point in history.closed if point.updates]
    if not points:
        return tag("section", tag("h2", "The sieve"), tag("p", NO_SIEVE, class_="empty"))
    charts = tag("div", _thresholds(points), _values(points), class_="pair")
    layers = (_plans(history), _layers(history, points))
    return tag("section", tag("h2", "The sieve"), *layers, charts, _table(history, points))


def _plans(history: History) -> Html:
    shares = [planned.shares for planned in history.planned]
    layout = history.layout
    if layout is None or not any(shares):
        return tag("p", "The rounds had no plan of blocks to show.", class_="empty")
    rows = []
    for tensor in _shown(history):
        stacks = [_stack(share, tensor) for share in shares]
        last = next(stack for stack in reversed(stacks) if stack)
        words = f"{layout.tensors[tensor].name}: last {percent(last[0])} key, {percent(last[1])} sparse"
        strip = stacked(stacks, ("key", "sparse", "dead"), words)
        rows.append(Row(layout.tensors[tensor].name, strip, _division(last)))
    rounds = [planned.server_round for planned in history.planned]
    return join([
        tag("h3", "What the plan expects of each layer"),
        tag("p", f"Shares of a layer's blocks. {every(len(history.points))} Right: the last plan.", class_="note"),
        legend(TONES),
        board(rows, ("layer", "", "key / sparse / dead"), rounds),
        _left_out(history),
    ])  # fmt: skip


def _layers(history: History, points: Sequence[RoundPoint]) -> Html:
    layout = history.layout
    whole = [point for point in points if layout and len(point.values_by_tensor) == len(layout.tensors)]
    if layout is None or not whole:
        return Html("")
    cut = columns(len(whole), MOST_COLUMNS)
    sent = np.array([np.mean([whole[place].values_by_tensor for place in column], axis=0) for column in cut])
    shares = sent / np.array([tensor.size for tensor in layout.tensors])
    most = float(shares.max()) or 1.0
    rows = []
    for tensor in _shown(history):
        figures = [_depth(share / most) for share in shares[:, tensor].tolist()]
        name, size = layout.tensors[tensor].name, layout.tensors[tensor].size
        last = f"{number(whole[-1].values_by_tensor[tensor])} of {count_text(size)}"
        rows.append(Row(name, heat(figures, f"{name}: {last} values in the last round's mean update"), last))
    return join([
        tag("h3", "What an update sends of each layer"),
        tag("p", f"{DEEPER} {percent(most)}. {every(len(whole))} Right: the last round's mean update.", class_="note"),
        board(rows, ("layer", "", "values"), [point.server_round for point in whole]),
    ])  # fmt: skip


def _thresholds(points: Sequence[RoundPoint]) -> Html:
    positive = [point for point in points if point.thresholds and point.thresholds[0] > 0]
    middle = line("median", positive, lambda p: p.thresholds[1] if p.thresholds else None)
    band = [(float(p.server_round), p.thresholds[0], p.thresholds[2]) for p in thinned(positive) if p.thresholds]
    chart = Chart(
        name="thresholds",
        title="Threshold",
        description="The smallest magnitude that an update sends; the band holds the middle 80 % of devices.",
        x=Axis.rounds(points[-1].server_round),
        y=Axis.fitting("threshold", [bound for _, *bounds in band for bound in bounds], number),
        lines=[middle],
        bands=[Band(band)],
    )
    return figure(chart)


def _values(points: Sequence[RoundPoint]) -> Html:
    from_key = line("key", points, lambda p: p.key_values)
    sparse = line("sparse", points, lambda p: p.sparse_values, "b")
    chart = Chart(
        name="values",
        title="Values of one update",
        description="How many values the mean update sends from blocks in the key and in the sparse region.",
        x=Axis.rounds(points[-1].server_round),
        y=Axis.linear("values an update", [0.0, *(y for _, y in [*from_key.points, *sparse.points])], count_text),
        lines=[from_key, sparse],
    )
    return figure(chart)


def _table(history: History, points: Sequence[RoundPoint]) -> Html:
    layout = history.layout
    if layout is None:
        return Html("")
    planned = next((p.shares for p in reversed(history.planned) if p.shares), None)
    blocks = np.bincount(layout.block_tensor)
    rows = []
    for tensor in _shown(history):
        sent = mean([p.values_by_tensor[tensor] for p in points if len(p.values_by_tensor) == len(layout.tensors)])
        spec = layout.tensors[tensor]
        divided = _division(stack) if planned and (stack := _stack(planned, tensor)) else DASH
        rows.append((spec.name, spec.role, count_text(spec.size), str(blocks[tensor]), divided,
                     known(sent, number)))  # fmt: skip
    head = ("layer", "role", "values", "blocks", "key / sparse / dead", "sent, mean of all rounds")
    return details("Layers as a table", table(head, rows))


def _shown(history: History) -> list[int]:
    """The tensors that are shown: all of a small model, the largest of another, in the model's order."""
    tensors = history.layout.tensors if history.layout else ()
    largest = sorted(range(len(tensors)), key=lambda tensor: -tensors[tensor].size)
    return sorted(largest[:MOST_LAYERS])


def _left_out(history: History) -> Html:
    count = len(history.layout.tensors) - MOST_LAYERS if history.layout else 0
    return tag("p", f"The {count} smallest tensors are not shown.", class_="note") if count > 0 else Html("")


def _stack(share: Shares | None, tensor: int) -> tuple[float, ...]:
    return (float(share.key[tensor]), float(share.sparse[tensor]), float(share.dead[tensor])) if share else ()


def _division(stack: Sequence[float]) -> str:
    return " / ".join(f"{100 * share:.0f}" for share in stack) + " %"


def _depth(share: float) -> float:
    """How deep a shade is: 1 for the most sent, less by an eighth with every halving."""
    return max(1.0 + math.log2(share) / OCTAVES_SHOWN, 0.01) if share > 0 else 0.0
