"""`gradsieve bundle`: what is in a bundle."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from coordinator.exported_model import LARGEST_BUNDLE_BYTES
from coordinator.job import Work
from shared.bundle import Bundle, open_bundle, read_manifest
from shared.errors import DataError
from shared.layout import Layout
from shared.signing import VerifyKey

PIPED_WIDTH = 120

bundle = typer.Typer(help="Bundles by themselves, without a run.", no_args_is_help=True)


@bundle.command()
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a bundle, such as runs/demo/bundle.gsb")],
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Show what a bundle holds and needs: tensors, files, operators, memory, signer.

    Its signature is checked against the key that it names itself; whether that key is yours is for you to compare.
    """
    if not file.is_file():
        raise DataError(f"{file}: there is no such file")
    archive = file.read_bytes()
    signer = read_manifest(archive).signer
    trusted = [VerifyKey.from_hex(signer)] if signer else []
    opened = open_bundle(archive, trusted, LARGEST_BUNDLE_BYTES, available_memory_bytes=None)
    facts = _facts(opened, archive)
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        _show(opened, facts)


def _facts(opened: Bundle, archive: bytes) -> dict[str, object]:
    manifest, layout = opened.manifest, Layout.of(list(opened.manifest.layout))
    blocks = Counter(layout.block_tensor.tolist())
    return {
        "name": manifest.name,
        "version": manifest.version,
        "task": manifest.task,
        "input_shape": list(manifest.input_shape),
        "num_classes": manifest.num_classes,
        "preprocessing": manifest.preprocessing,
        "tensors": [
            {"name": t.name, "shape": list(t.shape), "role": t.role, "values": t.size, "blocks": blocks[number]}
            for number, t in enumerate(layout.tensors)
        ],
        "values": layout.size,
        "blocks": layout.num_blocks,
        "files": {
            name: {"bytes": entry.size, "sha256": entry.sha256, "operators": operators(opened.files[name])}
            for name, entry in manifest.files.items()
        },
        "archive_bytes": len(archive),
        "archive_sha256": hashlib.sha256(archive).hexdigest(),
        "optimizer": {
            name: getattr(Work(), name) for name in ("learning_rate", "momentum", "weight_decay", "clip_norm")
        },
        "estimated_peak_bytes": manifest.estimated_peak_bytes,
        "minimum_onnxruntime": manifest.minimum_onnxruntime,
        "signer": manifest.signer,
    }


def operators(graph: bytes) -> dict[str, int]:
    """How many nodes of each ONNX operator a graph has, the most frequent first."""
    import onnx

    model = onnx.load_model_from_string(graph)
    return dict(Counter(node.op_type for node in model.graph.node).most_common())


def _show(opened: Bundle, facts: dict[str, object]) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)
    style = box.ROUNDED if console.is_terminal else None
    manifest = opened.manifest
    shape = ", ".join(map(str, manifest.input_shape))
    heading = f"{manifest.name} {manifest.version}: {manifest.task}, inputs [{shape}], {manifest.num_classes} outputs"
    console.print(heading, markup=False, highlight=False)
    console.print(_tensor_table(facts, style))
    console.print(_file_table(opened, style))
    for line in _notes(opened, facts):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _tensor_table(facts: dict[str, object], style: box.Box | None) -> Table:
    table = _table(style, ("tensor", "shape", "role"), ("values", "blocks"))
    tensors = facts["tensors"]
    assert isinstance(tensors, list)  # noqa: S101 - of `_facts`
    for tensor in tensors:
        shape = " x ".join(map(str, tensor["shape"])) or "one"
        table.add_row(tensor["name"], shape, tensor["role"], f"{tensor['values']:,}", f"{tensor['blocks']:,}")
    table.add_section()
    table.add_row("in all", "", "", f"{facts['values']:,}", f"{facts['blocks']:,}")
    return table


def _file_table(opened: Bundle, style: box.Box | None) -> Table:
    table = _table(style, ("file", "sha-256", "operators"), ("bytes",))
    for name, entry in opened.manifest.files.items():
        counts = operators(opened.files[name])
        shown = " ".join(f"{kind} {count}" for kind, count in counts.items())
        table.add_row(name, f"{entry.sha256[:16]}…", shown, f"{entry.size:,}")
    return table


def _table(style: box.Box | None, words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(box=style, pad_edge=style is not None)
    for name in words:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _notes(opened: Bundle, facts: dict[str, object]) -> list[str]:
    manifest, work = opened.manifest, Work()
    cut = ", ".join(f"{key} {value}" for key, value in manifest.preprocessing.items() if value is not None)
    return [
        f"recordings: {cut or 'not said how they become inputs; no device trains by this bundle yet'}",
        f"optimiser: the job's; unless it says otherwise SGD of rate {work.learning_rate}, momentum {work.momentum}, "
        f"weight decay {work.weight_decay}",
        f"memory: about {manifest.estimated_peak_bytes / 1e6:,.0f} MB while training; "
        f"needs onnxruntime {manifest.minimum_onnxruntime} or later",
        f"archive: {facts['archive_bytes']:,} bytes, SHA-256 {facts['archive_sha256']}",
        f"signer: {manifest.signer}; the signature is good",
    ]
