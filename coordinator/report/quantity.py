"""Figures as people read them: bytes in powers of ten, shares in percent, times in the unit that fits."""

import math
from collections.abc import Callable
from datetime import UTC, datetime

BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
DASH, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"
MINUTE_SECONDS, HOUR_SECONDS = 60, 3600


def bytes_text(count: float) -> str:
    """Three digits and a unit: 315 B, 4.13 kB, 2.9 MB."""
    step = min(int(math.log10(count) / 3), len(BYTE_UNITS) - 1) if count >= 1 else 0
    digits = f"{count / 1000**step:.3g}" if count < 999.5 * 1000**step else str(round(count / 1000**step))
    return f"{digits} {BYTE_UNITS[step]}"


def percent(share: float) -> str:
    """A share of 1 with one decimal."""
    return f"{100 * share:.1f} %"


def count_text(count: float) -> str:
    """A whole number with thousands apart."""
    return f"{count:,.0f}"


def ratio_text(ratio: float) -> str:
    """How many times: one decimal below ten."""
    return f"{ratio:,.0f}{TIMES}" if ratio >= 10 else f"{ratio:.1f}{TIMES}"


def number(value: float) -> str:
    """Three significant digits, without an exponent where that is as short."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e7 else f"{value:.3g}"


def seconds_text(seconds: float) -> str:
    """Seconds below two minutes, then minutes, then hours."""
    if seconds < 2 * MINUTE_SECONDS:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    if seconds < 2 * HOUR_SECONDS:
        return f"{seconds / MINUTE_SECONDS:.0f} min"
    return f"{seconds / HOUR_SECONDS:.1f} h"


def moment(unix_seconds: float) -> str:
    """A date and time in UTC."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def known(figure: float | None, written: Callable[[float], str]) -> str:
    """A figure as `written`, or a dash where there is none."""
    return DASH if figure is None else written(figure)
