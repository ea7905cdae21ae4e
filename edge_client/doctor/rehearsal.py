"""What the trainer will do, rehearsed in a process of its own: one training step of known result, and reading the data.

`python -m edge_client.doctor.rehearsal step` and `… data FOLDER SOURCE`, whose settings are JSON, print their findings
as a JSON list.
"""

import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from edge_client.doctor.finding import Finding, Mark
from edge_client.settings import EdgeSettings
from edge_client.trainer_pipe import ONE_THREAD
from shared.errors import GradsieveError

STEP_SECONDS, DATA_SECONDS = 120.0, 300.0
"""A small board needs some ten seconds for its first import of onnxruntime from a card."""


def training(environment: dict[str, str]) -> Sequence[Finding]:
    """Whether onnxruntime is here and new enough, and computes what torch does."""
    return _child("training", ["step"], STEP_SECONDS, environment)


def data(settings: EdgeSettings, environment: dict[str, str]) -> Sequence[Finding]:
    """Whether the local recordings can be read."""
    return _child(
        "data", ["data", str(settings.data), settings.data_source.model_dump_json()], DATA_SECONDS, environment
    )


def _child(check: str, arguments: list[str], seconds: float, environment: dict[str, str]) -> Sequence[Finding]:
    """The findings of this module in another process: onnxruntime may abort, and the kernel may end it for memory."""
    command = [sys.executable, "-m", "edge_client.doctor.rehearsal", *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - our own module, and a path from the settings
            command, env=environment | ONE_THREAD, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return [Finding.fail(check, f"did not end within {seconds:g} s", "free memory, and see whether the disk hangs")]
    except OSError as error:
        return [Finding.fail(check, f"no process can be started ({error.strerror})", "free memory")]
    if done.returncode == 0:
        return [Finding(**{**found, "mark": Mark(found["mark"])}) for found in json.loads(done.stdout)]
    return [_ended(check, done.returncode, done.stderr)]


def _ended(check: str, code: int, stderr: str) -> Finding:
    last = (stderr.strip().splitlines() or ["nothing"])[-1][:300]
    if code >= 0:
        return Finding.fail(check, f"ended with exit code {code} and said {last}", "install gradsieve[edge] anew")
    if -code == signal.SIGKILL:
        return Finding.fail(check, "was killed, most often for want of memory", "end other programs, or add zram")
    text = f"was ended by signal {-code} ({signal.strsignal(-code)}) and said {last}"
    return Finding.fail(
        check, text, "this processor or system does not run onnxruntime: reinstall, or use another board"
    )


def step_findings() -> list[Finding]:
    """Train one step of the bundled graph and compare with what torch computed."""
    import onnxruntime  # noqa: PLC0415 - in the child alone

    from edge_client.doctor.known_step import KNOWN, taken  # noqa: PLC0415 - this loads numpy and onnxruntime

    version = f"onnxruntime {onnxruntime.__version__}"
    began = time.perf_counter()
    result = taken()
    milliseconds = 1000 * (time.perf_counter() - began)
    wrong = [name for name, known in KNOWN.items() if not math.isclose(result[name], known, rel_tol=1e-4, abs_tol=1e-6)]
    if wrong:
        text = f"{version} computes {wrong[0]} {result[wrong[0]]:.6f} and not {KNOWN[wrong[0]]:.6f}"
        return [Finding.fail("training", text, "reinstall it; if it stays so, this board computes wrongly")]
    return [Finding.ok("training", f"{version}: a known training step came out right, in {milliseconds:.0f} ms")]


def data_findings(folder: Path, source: str) -> list[Finding]:
    """Read all recordings, as the trainer does; `source` are the settings of the data source as JSON."""
    import numpy as np  # noqa: PLC0415 - in the child alone

    from edge_client.data_settings import DataSourceSettings  # noqa: PLC0415 - with those that follow
    from edge_client.data_sources import source_for  # noqa: PLC0415 - this loads numpy

    recordings = source_for(folder, DataSourceSettings.model_validate_json(source)).load()
    for name, series in zip(recordings.names, recordings.series, strict=True):
        if not np.isfinite(series).all():
            text = f"{folder}: {name}: has a value that is not a finite number"
            return [Finding.fail("data", text, "remove the recording or fill the gap")]
    megabytes = sum(series.nbytes for series in recordings.series) / 1e6
    classes = {label for label in recordings.labels if isinstance(label, int)}
    told = f"of {len(classes)} classes" if classes else "with numbers to predict"
    found = f"{len(recordings.labels)} recordings {told}, {megabytes:.1f} MB in memory"
    if len(classes) == 1:
        return [Finding.warn("data", found, "a board that knows one class alone learns little: see the labels")]
    return [Finding.ok("data", found)]


def main(action: str, *rest: str) -> None:
    """Print the findings of one action."""
    check = {"step": "training", "data": "data"}[action]
    try:
        found = step_findings() if action == "step" else data_findings(Path(rest[0]), rest[1])
    except ImportError as error:
        found = [Finding.fail(check, f"{error}", "install gradsieve with its extra: pip install 'gradsieve[edge]'")]
    except GradsieveError as error:
        found = [Finding.of_error(check, error)]
    print(json.dumps([asdict(finding) for finding in found]))


if __name__ == "__main__":
    main(*sys.argv[1:])
