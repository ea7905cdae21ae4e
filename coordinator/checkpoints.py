"""Models and optimiser state on disk: written whole or not at all, and never loaded damaged."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_safetensors

from shared.durable_file import write_durably
from shared.errors import RunError

KEPT = 3
_NAME = re.compile(r"round-(\d{7})-([0-9a-f]{16})\.safetensors")

Tensors = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded checkpoint: the round it ends, its arrays by name, and the facts that were saved with them."""

    name: str
    server_round: int
    tensors: Tensors
    facts: dict[str, str]


class CheckpointStore:
    """The checkpoints of one run in one folder, of which the newest three are kept, the final one always among them.

    A file's name ends in the first 16 digits of its SHA-256, so one rename publishes content and digest together.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob("*.tmp"):
            left_over.unlink()

    def wants(self, server_round: int) -> bool:
        """True: a run may have to go on after any round."""
        return True

    def save(self, server_round: int, tensors: Tensors, facts: dict[str, str]) -> str:
        """Write a checkpoint that survives a power cut from here on, and return its name.

        Saving the same content again yields the same name. Raises `RunError` when the folder cannot be written.
        """
        # one metadata entry: with several, their order in the file would differ from run to run
        data = to_safetensors(
            {name: np.asarray(array, order="C") for name, array in tensors.items()},
            metadata={"facts": json.dumps(facts, sort_keys=True)},
        )
        name = f"round-{server_round:07d}-{hashlib.sha256(data).hexdigest()[:16]}.safetensors"
        try:
            write_durably(self._folder / name, data)
            for superseded in self._names()[:-KEPT]:
                (self._folder / superseded).unlink()
        except OSError as error:
            raise RunError(f"checkpoint {self._folder / name} cannot be written: {error}; free disk space") from error
        return name

    def load(self, name: str) -> Checkpoint:
        """The checkpoint `name`; `RunError` when it is missing or damaged, and a damaged one is renamed `.corrupt`."""
        match = _NAME.fullmatch(name)
        path = self._folder / name
        if match is None or not path.is_file():
            raise RunError(f"there is no checkpoint {name!r} in {self._folder}")
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(match[2]):
            path.rename(path.with_name(f"{name}.corrupt"))
            raise RunError(f"checkpoint {path} is damaged and was set aside: resume from the one before")
        return Checkpoint(name, int(match[1]), *_read(path))

    def _names(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir() if _NAME.fullmatch(path.name))


def _read(path: Path) -> tuple[Tensors, dict[str, str]]:
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
            return tensors, json.loads(file.metadata()["facts"])
    except SafetensorError as error:
        raise RunError(f"checkpoint {path} cannot be read: {error}") from error
