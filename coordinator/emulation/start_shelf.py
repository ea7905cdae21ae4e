"""What shipped tasks' models start from, kept in the user's cache: exporting takes longer than a small emulation.

Nothing here loads torch: where a start is kept, an emulation begins without it.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from coordinator.export.step_graphs import StepGraphs
from coordinator.tasks.shelf import cache_folder
from shared.fleet_brief import TorchModule
from shared.layout import F32, Layout

PACKAGE = Path(__file__).parents[1]
SOURCES = (*(PACKAGE / "export").rglob("*.py"), *(PACKAGE / "tasks").glob("*.py"), PACKAGE.parent / "shared/layout.py")
"""All of ours that a start follows from."""


@dataclass(frozen=True)
class Start:
    """A model's graphs, its classes, its weights float32 `[size]` as the job's seed draws them, and its torch module.

    `module` is None where that has no name to find it by.
    """

    graphs: StepGraphs
    classes: int
    initial: F32
    module: TorchModule | None


Maker = Callable[[StepGraphs | None], Start | None]


def start_of(task: str, shape: tuple[int, ...], seed: int, make: Maker, folder: Path | None = None) -> Start | None:
    """The start of a shipped task's model for inputs of this shape: from the cache where it was made before.

    A file is found again only by the same sources, torch and onnx, so that a change of any of them makes it anew. None
    where `make` gives none; it is given the graphs where another seed has made them already.
    """
    cache, stem = folder or cache_folder(), f"start-{task}-{_key(task, shape)}"
    path = cache / f"{stem}-{seed}.npz"
    if not path.is_file():
        others = sorted(cache.glob(f"{stem}-*.npz"))
        made = make(_read(others[0]).graphs if others else None)
        if made is None:
            return None
        _write(path, made)
    return _read(path)


def _read(path: Path) -> Start:
    with np.load(path, allow_pickle=False) as kept:
        parts = {name: kept[name].tobytes() for name in ("train", "evaluate", "predict", "facts")}
        initial: F32 = kept["initial"]
    facts = json.loads(parts["facts"])
    rows = [(str(name), tuple(sizes), role) for name, sizes, role in facts["layout"]]
    graphs = StepGraphs(parts["train"], parts["evaluate"], parts["predict"], Layout.of(rows))
    module = facts["module"] and TorchModule.model_validate(facts["module"])
    return Start(graphs, facts["classes"], initial, module)


def _write(path: Path, start: Start) -> None:
    """Whole or not at all: two emulations may begin at once."""
    graphs = start.graphs
    facts = {
        "layout": graphs.layout.to_json(),
        "classes": start.classes,
        "module": start.module and start.module.model_dump(),
    }
    parts = {"train": graphs.train, "evaluate": graphs.evaluate, "predict": graphs.predict}
    parts["facts"] = json.dumps(facts).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        partial = Path(folder) / path.name
        arrays = {name: np.frombuffer(part, np.uint8) for name, part in parts.items()}
        np.savez(partial, allow_pickle=False, initial=start.initial, **arrays)
        partial.replace(path)


def _key(task: str, shape: tuple[int, ...]) -> str:
    digest = hashlib.sha256(json.dumps([task, shape, version("torch"), version("onnx")]).encode())
    for source in sorted(SOURCES):
        digest.update(hashlib.sha256(source.read_bytes()).digest())
    return digest.hexdigest()[:16]
