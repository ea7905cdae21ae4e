"""What is to be placed: a job, the accuracy that is wanted of it, and the sites with their boards."""

import tomllib
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import SettingsError

MOST_BOARDS = 1_000
"""In all: pilots emulate every one of them."""


class Site(BaseModel):
    """Boards that could share a head: one network of their own, and one way out of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    boards: int = Field(ge=1)
    price: float = Field(1.0, ge=0, description="of a megabyte between the site and the coordinator's broker")
    can_host: bool = Field(True, description="there is a machine for a head")


class Question(BaseModel):
    """A placement file: `job` is a path relative to it, `intervals` the local steps a round that are tried."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job: Path
    accuracy: float = Field(gt=0, lt=1)
    intervals: tuple[int, ...] = Field((5, 20, 80), min_length=1)
    data: Path | None = None
    site: tuple[Site, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        names = [site.name for site in self.site]
        if len(set(names)) < len(names):
            raise ValueError("two sites have the same name")
        if min(self.intervals) < 1 or len(set(self.intervals)) < len(self.intervals):
            raise ValueError("intervals are different numbers of steps, 1 at least")
        if self.boards > MOST_BOARDS:
            raise ValueError(f"{self.boards} boards: at most {MOST_BOARDS} can be tried, so name some of the sites")
        return self

    @property
    def boards(self) -> int:
        """How many there are in all."""
        return sum(site.boards for site in self.site)


def read_question(path: Path) -> Question:
    """The question in a TOML file, its paths made whole; raises `SettingsError` naming file and key."""
    try:
        found = Question.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{path}: {where + ': ' if where else ''}{first['msg']}") from None
    except ValueError as error:  # bad UTF-8 or bad TOML
        raise SettingsError(f"{path}: is not valid TOML: {error}") from None
    data = None if found.data is None else path.parent / found.data
    return found.model_copy(update={"job": path.parent / found.job, "data": data})
