"""The folder of one run: job, bundle, journal, checkpoints, and what people read afterwards."""

from dataclasses import dataclass
from pathlib import Path

from shared.errors import RunError

KEY_FILE = "coordinator.key"
"""The key of a coordinator that is made for one run folder alone."""


@dataclass(frozen=True)
class RunFolder:
    """Paths below one folder; nothing is read or written here except through the methods."""

    path: Path

    @property
    def journal(self) -> Path:
        """SQLite journal of rounds, updates and events."""
        return self.path / "journal.sqlite"

    @property
    def checkpoints(self) -> Path:
        """Folder of model checkpoints."""
        return self.path / "checkpoints"

    @property
    def bundle(self) -> Path:
        """The signed training bundle that devices get."""
        return self.path / "bundle.gsb"

    @property
    def initial(self) -> Path:
        """The initial model, raw little-endian float32."""
        return self.path / "initial.f32"

    @property
    def summary(self) -> Path:
        """Figures of the run, for scripts."""
        return self.path / "summary.json"

    @property
    def report(self) -> Path:
        """Pictures of the run, for people."""
        return self.path / "report.html"

    @property
    def model(self) -> Path:
        """The final model, safetensors by tensor name."""
        return self.path / "model.safetensors"

    def begin(self, resume: bool) -> None:
        """Make the folder; raises `RunError` when a run is there and `resume` is off, or none is there and it is on."""
        present = self.journal.is_file()
        if present and not resume:
            raise RunError(f"{self.path} holds a run already: continue it with --resume, or choose another --out")
        if resume and not present:
            raise RunError(f"{self.path} holds no run to resume: leave out --resume to begin one")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.path} cannot be made ({error.strerror}): choose another --out") from None
