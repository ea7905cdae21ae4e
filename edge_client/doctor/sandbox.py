"""What the client sees as a service is less than what a shell sees: no home folders, and a /tmp of its own."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_client.doctor.finding import Finding
from edge_client.settings import EdgeSettings

HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108 - named, not used


def hidden(settings: EdgeSettings, unit: Path) -> Sequence[Finding]:
    """A warning for each path of the settings that the installed service cannot see; none where it is not installed."""
    if not unit.exists():
        return []
    remedy = "move it below /var/lib/gradsieve-edge or /srv, or allow it by 'systemctl edit gradsieve-edge'"
    return [
        Finding.warn("service", f"{path}: as a service the client does not see what is below {place}", remedy)
        for path in _paths(settings)
        for place in HIDDEN
        if path.absolute().is_relative_to(place)
    ]


def _paths(settings: EdgeSettings) -> Iterator[Path]:
    yield settings.data
    yield settings.state_dir
    yield from [settings.policy] if settings.policy else []
    yield from (Path(entry) for entry in settings.trusted_signers if "/" in entry)
    for login in (settings.broker, settings.data_source.sensor):
        files = [login.password_file] if login else []
        if login and login.tls is not None:
            files += [login.tls.ca_file, login.tls.cert_file, login.tls.key_file]
        yield from (file for file in files if file is not None)
