"""How much disk an installation takes: the files of a distribution and of all that it requires, as they lie here."""

from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement


def installed_mb(requirement: str) -> float | None:
    """Megabytes of what `requirement`, such as `gradsieve[edge]`, brings along; None where part of it is missing.

    Compiled files count as far as pip made them. A distribution in editable form counts nothing itself.
    """
    try:
        found = {one.name: one for one in _closure(Requirement(requirement), set())}
    except PackageNotFoundError:
        return None
    return round(sum(_bytes(one) for one in found.values()) / 1e6, 1)


def _closure(requirement: Requirement, seen: set[str]) -> Iterator[Distribution]:
    key = f"{requirement.name}[{','.join(sorted(requirement.extras))}]"
    if key in seen:
        return
    seen.add(key)
    found = distribution(requirement.name)
    yield found
    for text in found.requires or ():
        needed = Requirement(text)
        extras = requirement.extras or {""}
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            yield from _closure(needed, seen)


def _bytes(one: Distribution) -> int:
    files = [Path(str(file.locate())) for file in one.files or ()]
    return sum(file.stat().st_size for file in files if file.is_file())
