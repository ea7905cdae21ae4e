"""The kinds of devices that an emulation is of: shipped ones by name, or those of a user's own file."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.device_profile import DeviceProfile
from shared.errors import SettingsError

SHIPPED = Path(__file__).with_name("profiles.toml")


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    profile: tuple[DeviceProfile, ...] = Field(min_length=1)


def read_profiles(path: Path = SHIPPED) -> dict[str, DeviceProfile]:
    """The `[[profile]]` tables of a TOML file by name; raises `SettingsError` naming file and key."""
    try:
        found = _File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).profile
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}): check the path") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise SettingsError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except ValueError as error:  # bad UTF-8 or bad TOML
        raise SettingsError(f"{path}: is not valid TOML: {error}") from None
    return {profile.name: profile for profile in found}


def chosen(wanted: Sequence[str], known: dict[str, DeviceProfile]) -> list[DeviceProfile]:
    """The profiles of `wanted`, each `NAME` or `NAME=SHARE`; none wanted: all of a file, of the shipped ones `ideal`.

    Raises `SettingsError` for a name that is not known or a share that is none.
    """
    profiles = []
    for entry in wanted:
        name, _, share = entry.partition("=")
        if name not in known:
            raise SettingsError(f"device kind {name!r} is unknown: choose {', '.join(sorted(known))}")
        try:
            profiles.append(known[name].model_copy(update={"share": float(share)} if share else {}))
        except ValueError:
            raise SettingsError(f"{entry!r}: write it as {name}=0.3") from None
        if not profiles[-1].share > 0:
            raise SettingsError(f"{entry!r}: a share must be above 0")
    return profiles
