"""The shape that every benchmark's result file has, and where its figures came from."""

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

PACKAGES = ("numpy", "torch", "onnxruntime", "flwr", "paho-mqtt")

Row = Mapping[str, object]


@dataclass(frozen=True)
class Claim:
    """What the documentation says, with the figure of this run: `floor` must be reached, `aim` is wanted."""

    claim: str
    value: float
    floor: float
    aim: float
    better: Literal["lower", "higher"]

    @property
    def met(self) -> Literal["aim", "floor", "no"]:
        """How far the value reaches."""
        sign = 1 if self.better == "higher" else -1
        if sign * self.value >= sign * self.aim:
            return "aim"
        return "floor" if sign * self.value >= sign * self.floor else "no"

    def to_json(self) -> dict[str, object]:
        """The claim with its verdict."""
        fields = ("claim", "value", "floor", "aim", "better", "met")
        return {field: getattr(self, field) for field in fields}


def write_result(
    path: Path,
    name: str,
    command: str,
    seeds: Sequence[int],
    rows: Sequence[Row],
    claims: Sequence[Claim],
    more: Mapping[str, object] | None = None,
) -> None:
    """Write one result file, with the commit, machine and versions that it was measured on; `more` are further keys."""
    result = {
        "name": name,
        "commit": _commit(),
        "command": command,
        "machine": f"{platform.machine()}, {platform.system()} {platform.release().split('-')[0]}",
        "versions": {"python": platform.python_version()} | {package: version(package) for package in PACKAGES},
        "seeds": list(seeds),
        **(more or {}),
        "rows": list(rows),
        "claims": [claim.to_json() for claim in claims],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _commit() -> str:
    """The commit of the working tree, marked when it has changes."""
    asked = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    answer = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603  fixed words
    return answer.stdout.strip() or "unknown"
