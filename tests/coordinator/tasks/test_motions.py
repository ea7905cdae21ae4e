from pathlib import Path

import pytest

from coordinator.tasks.motions import read_series
from shared.errors import DataError


def _row(value: float, label: str, samples: int = 100) -> str:
    return ":".join([",".join([str(value)] * samples)] * 6 + [label])


def _file(folder: Path, *rows: str) -> Path:
    path = folder / "some.ts"
    path.write_text("@problemName BasicMotions\n@data\n" + "\n".join(rows) + "\n")
    return path


def test_series_and_classes_are_read(tmp_path: Path) -> None:
    x, y = read_series(_file(tmp_path, _row(0.5, "Walking"), _row(-1.25, "Badminton")))
    assert x.shape == (2, 6, 100)
    assert (str(x.dtype), str(y.dtype)) == ("float32", "int64")
    assert x[:, 5, 99].tolist() == [0.5, -1.25]
    assert y.tolist() == [3, 0]


@pytest.mark.parametrize(
    "rows",
    [["1,2:3"], [_row(1, "Swimming")], [_row(1, "Running", 99)], [_row(1, "Running"), _row(1, "Running", 99)], []],
)
def test_other_content_is_refused(tmp_path: Path, rows: list[str]) -> None:
    with pytest.raises(DataError, match=r"some\.ts (holds no series of|is not the data of BasicMotions)"):
        read_series(_file(tmp_path, *rows))
