"""Accuracy over uplink bytes as a picture of its own: one line a codec, the budget that reaches the target cheapest."""

from collections.abc import Sequence
from importlib.resources import files

from coordinator.bench.cell_run import AVERAGED, running_means
from coordinator.bench.compression_claims import codec_target, of_all_seeds
from coordinator.bench.setting import Setting, best, cheapest
from coordinator.report.chart import Chart, Line, Tone
from coordinator.report.markup import Html, tag
from coordinator.report.quantity import bytes_text
from coordinator.report.scale import Axis

TONES: dict[str, Tone] = {"partition": "a", "stc": "b", "dense": "c"}
"""All other codecs are drawn soft."""
LOWEST_SHARE = 0.9
"""Of the best accuracy: what lies below is not drawn, so that the ends of the lines can be told apart."""


def accuracy_svg(settings: Sequence[Setting]) -> str:
    """An SVG file of the study `codec` with dense beside it; of any settings where there is no such study."""
    shown = _shown(settings)
    lines = [Line(s["codec"], _points(s, 0.0), TONES.get(s["codec"], "soft")) for s in shown]
    floor = LOWEST_SHARE * max(y for line in lines for _, y in line.points)
    lines = [Line(line.label, [p for p in line.points if p[1] >= floor], line.tone) for line in lines]
    every = [point for line in lines for point in line.points]
    chart = Chart(
        name="accuracy-uplink",
        title=f"Accuracy over uplink bytes, {shown[0].place}",
        description="Each codec at the budget with which it reaches the better half's accuracy at the least cost.",
        x=Axis.logarithmic("uplink, all clients together", [x for x, _ in every], bytes_text),
        y=Axis.linear("accuracy", [y for _, y in every], lambda share: f"{100 * share:.0f} %"),
        lines=[line for line in lines if line.points],
    )
    return _standalone(chart.svg())


def _shown(settings: Sequence[Setting]) -> list[Setting]:
    place = next((setting.place for setting in settings if setting["study"] == "codec"), settings[0].place)
    here = [setting for setting in settings if setting.place == place]
    study = [setting for setting in here if setting["study"] == "codec"] or here
    target = codec_target(of_all_seeds(study)) or 0.0
    chosen = []
    for codec in dict.fromkeys(["dense", *(setting["codec"] for setting in study)]):
        own = of_all_seeds([s for s in (study if codec != "dense" else here) if s["codec"] == codec])
        found = cheapest(own, target) if codec != "dense" else None
        if setting := found[0] if found else best(own, lambda setting: setting.accuracy - setting["steps"]):
            chosen.append(setting)
    most = max(len(setting.rows) for setting in chosen)
    return [setting for setting in chosen if len(setting.rows) == most]


def _points(setting: Setting, least: float) -> list[tuple[float, float]]:
    whole = min(AVERAGED, len(setting.curve)) - 1
    return [(float(spent), mean) for _, mean, spent in running_means(setting.curve)[whole:] if mean >= least]


def _standalone(svg: Html) -> str:
    """The picture with the report's colours in it, light or dark as its reader has them, on its own ground."""
    css = files("coordinator.report").joinpath("report.css").read_text(encoding="utf-8")
    rules = css[: css.index("* {")] + "\n".join(line for line in css.splitlines() if _draws(line))
    font = ".chart { font-family: system-ui, sans-serif; }"
    ground = tag("rect", width="100%", height="100%", fill="var(--card)")
    style = f"<style>{rules}\n{font}</style>"
    head, rest = svg.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg" width="880">{style}{ground}{rest}\n'


def _draws(line: str) -> bool:
    return line.startswith((".chart", ".middle", ".end", ".grid", ".axis", ".line", ".dot", ".level", ".band"))
