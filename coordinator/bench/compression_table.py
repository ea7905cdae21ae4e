"""The compression benchmark as Markdown: claims, ratios by task, and every setting study by study."""

from collections.abc import Iterable, Mapping, Sequence

from coordinator.bench.compression_claims import within_ratios
from coordinator.bench.result import Claim
from coordinator.bench.setting import Setting
from coordinator.report.quantity import DASH, TIMES, bytes_text

HEAD = ("codec", "ratio", "accuracy", "uplink", "to target", "plans", "down", "frame / ideal", "seeds")
TITLES = {
    "dense": "Federated averaging, several numbers of local steps",
    "codec": "Codecs alone: one optimiser and schedule, several budgets",
    "gain": "Of that, what is the gain's: the sieve without it, STC with it",
    "published": "Rivals as published, with federated averaging's rounds and steps",
    "ours": "Our recipe, all levers",
    "lent": "STC with the same levers",
    "tasks": "Tasks, skews and participation",
    "ablation": "The sieve without one of its parts",
}


def table_of(
    name: str, command: str, claims: Sequence[Claim], settings: Sequence[Setting], targets: Mapping[str, float]
) -> str:
    """The whole page, which stands beside `name`.json and `name`.svg."""
    lines = [
        "# Bytes to accuracy",
        "",
        f"Made by `{command}`; every run, its curve and the versions are in [{name}.json]({name}.json).",
        "Federations are emulated in one process; frames are real, and each is decoded from its bytes. Ratios and",
        "uplink are of codec frames; the header of an update takes about 20 bytes more. Figures are means over seeds.",
        "",
        f"![Accuracy over uplink bytes]({name}.svg)",
        "",
        *_table(("claim", "value", "floor", "aim", "met"), (_claim(claim) for claim in claims)),
        "## Largest ratio within 0.3 points of dense, same rounds and steps",
        "",
        *_table(
            ("task / skew", "ratio"), ((place, f"{ratio:,.0f}") for place, ratio in within_ratios(settings).items())
        ),
    ]
    for study, title in TITLES.items():
        lines += _study(title, [setting for setting in settings if setting["study"] == study], targets)
    return "\n".join(lines)


def _study(title: str, settings: Sequence[Setting], targets: Mapping[str, float]) -> list[str]:
    if not settings:
        return []
    lines = [f"## {title}", ""]
    for place in dict.fromkeys(setting.place for setting in settings):
        target = f", target {targets[place]:.3f}" if place in targets else ""
        lines += [f"{place}{target}", ""]
        here = [setting for setting in settings if setting.place == place]
        lines += _table(HEAD, (_row(setting, targets.get(place)) for setting in here))
    return lines


def _row(setting: Setting, target: float | None) -> tuple[str, ...]:
    spent = None if target is None else setting.bytes_to(target)
    ideal = setting.mean("ideal_bits")
    work = f"{setting['rounds']} rounds {TIMES} {setting['steps']} steps"
    return (
        f"{setting.label}, {work}",
        f"{setting.mean('ratio'):,.0f}",
        f"{setting.accuracy:.4f}",
        bytes_text(setting.mean("uplink_bytes")),
        DASH if spent is None else bytes_text(spent),
        bytes_text(setting.mean("plan_bytes")),
        bytes_text(setting.mean("downlink_bytes")),
        f"{setting.mean('frame_bits') / ideal:.3f}" if ideal else "",
        str(len(setting.rows)),
    )


def _claim(claim: Claim) -> tuple[str, ...]:
    return claim.claim, f"{claim.value:.4g}", f"{claim.floor:g}", f"{claim.aim:g}", claim.met


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    body = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *body, ""]
