"""`gradsieve export`."""

import json
import re
from pathlib import Path
from typing import Annotated

import typer

from coordinator.commands.options import ConfigOption, read_settings
from shared.errors import SettingsError


def export(
    factory: Annotated[
        str, typer.Argument(metavar="MODULE:FACTORY", help="makes the torch module: net:Net, net.py:Net")
    ],
    input_shape: Annotated[str, typer.Option(metavar="N,...", help="of one example, without the batch: 6,100")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="the bundle; default <name>.gsb")] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="cross-entropy, binary-cross-entropy, mse, huber, or your own as module:name"),
    ] = None,
    regression: Annotated[bool, typer.Option("--regression", help="labels are numbers, not classes")] = False,
    tokens: Annotated[bool, typer.Option("--tokens", help="inputs are int64 indices, not float32")] = False,
    name: Annotated[str | None, typer.Option(help="of the task; default the factory's, in small letters")] = None,
    version: Annotated[str, typer.Option(help="of the bundle")] = "1",
    stride: Annotated[int | None, typer.Option(min=1, help="samples between windows; default half a window")] = None,
    mean: Annotated[
        str | None, typer.Option(metavar="M,...", help="of each channel, to subtract; default each device's own")
    ] = None,
    std: Annotated[str | None, typer.Option(metavar="S,...", help="of each channel, to divide by; with --mean")] = None,
    bgr: Annotated[bool, typer.Option("--bgr", help="images are blue, green, red")] = False,
    vocabulary: Annotated[
        int | None, typer.Option(min=1, help="how many tokens there are; default the size of the model's embedding")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the initial weights")] = 1,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Make a signed bundle and initial weights of your own torch module, for `task = "FILE.gsb"` in a job.

    The module is imported, so its code runs here; devices get graphs and no code. Beside FILE.gsb the initial weights
    are written to FILE.safetensors, and both are overwritten.
    """
    shape = _shape(input_shape)
    called = name or re.sub(r"[^a-z0-9]+", "-", factory.rpartition(":")[2].lower()).strip("-")
    from coordinator.bundle_builder import Title, signed_bundle
    from coordinator.export.step import export_step
    from coordinator.export.step_graphs import initial_weights
    from coordinator.exported_model import ExportedModel
    from coordinator.run_entry import signing_key
    from coordinator.user_model import InputForm, Kind, UserModel, load_loss, load_model

    model = load_model(factory, seed)
    kind: Kind = "regression" if regression else "classification"
    mine = UserModel.of(model, None if loss is None else load_loss(loss), shape, tokens, kind, vocabulary)
    scale = (_numbers("--mean", mean), _numbers("--std", std))
    preprocessing = mine.preprocessing(InputForm(stride, *scale, "bgr" if bgr else None))
    graphs = export_step(model, mine.loss, mine.x, mine.y)
    key = signing_key(read_settings(config, None).key_file)
    bundle = signed_bundle(Title(called, version, kind, shape, mine.num_classes), graphs, preprocessing, key)
    written = ExportedModel(out or Path(f"{called}.gsb"))
    written.write(bundle, graphs.layout, initial_weights(model, graphs.layout))
    facts = {
        "bundle": str(written.bundle),
        "weights": str(written.weights),
        "bundle_bytes": len(bundle),
        "values": graphs.layout.size,
        "inputs": preprocessing.kind,
    }
    if as_json:
        print(json.dumps(facts, indent=2))
        return
    print(f"{written.bundle}: {len(bundle):,} bytes; {graphs.layout.size:,} values in {written.weights}")


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"{option} {text}: give a number for each channel, such as 0.5,0.5,0.5") from None


def _shape(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9][0-9]{0,8}(,[1-9][0-9]{0,8}){0,7}", text):
        raise SettingsError(f"--input-shape {text}: give one to eight sizes from 1 up, such as 6,100 or 1,28,28")
    return tuple(map(int, text.split(",")))
