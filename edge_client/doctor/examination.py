"""All that is examined, in order: what a later check needs comes first, and a hopeless one is left out."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

from edge_client.cli import Invocation
from edge_client.doctor import board, connection, credentials, rehearsal, sandbox
from edge_client.doctor.finding import Finding, Mark
from edge_client.doctor.mqtt import EXAMINED, STEP_SECONDS, mqtt
from edge_client.doctor.patience import Look, within
from edge_client.doctor.report import as_json, is_well, line, summary
from edge_client.memory import KERNEL
from edge_client.sensors import Sensors
from edge_client.settings import EdgeSettings
from shared.errors import GradsieveError

CGROUP, TIMESYNC = Path("/sys/fs/cgroup"), Path("/run/systemd/timesync")
UNIT = Path("/etc/systemd/system/gradsieve-edge.service")
LOCAL_SECONDS = 20.0
DISK_SECONDS = 60.0


def examine(invocation: Invocation, environment: Mapping[str, str], out: TextIO) -> int:
    """Print what is found, each line as soon as it is known, or all as JSON; returns 0 when nothing failed, else 1."""
    findings: list[Finding] = []
    colour = out.isatty() and "NO_COLOR" not in environment
    for finding in look(invocation, environment):
        findings.append(finding)
        if not invocation.as_json:
            print(line(finding, colour), file=out, flush=True)
    print(as_json(findings) if invocation.as_json else summary(findings), file=out)
    return 0 if is_well(findings) else 1


def look(invocation: Invocation, environment: Mapping[str, str]) -> Iterator[Finding]:
    """Every finding; without settings that load only the board and onnxruntime are examined."""
    try:
        settings = invocation.read(environment)
    except GradsieveError as error:
        yield Finding.of_error("settings", error)
        yield from _machine([])
        yield from rehearsal.training(dict(environment))
        return
    yield Finding.ok("settings", f"{invocation.config or 'command line'}: {settings.name}, {settings.broker.address}")
    witnesses = [path for path in (invocation.config, settings.state_dir / "connection") if path]
    yield from _machine(witnesses)
    yield from within(DISK_SECONDS, "disk", lambda: board.disk(settings.state_dir))
    yield from sandbox.hidden(settings, UNIT)
    keys = credentials.signers(settings)
    files = within(LOCAL_SECONDS, "certificate", lambda: credentials.certificates(settings, connection.utc_now()))
    yield from (*keys, *credentials.policy(settings), *files)
    sensors = Sensors(settings.state_dir, settings.gate.metered_interfaces)
    yield from within(LOCAL_SECONDS, "gate", lambda: board.gate(sensors.read(), settings.gate))
    yield from _broker(settings, blocked=_failed([*keys, *files]))
    yield from rehearsal.data(settings, dict(environment))
    yield from rehearsal.training(dict(environment))


def _machine(witnesses: Sequence[Path]) -> Iterator[Finding]:
    yield from board.clock(time.time(), [*witnesses, Path(__file__)], TIMESYNC)
    yield from board.memory(KERNEL)
    yield from board.swap(KERNEL)
    yield from board.memory_limit(CGROUP)


def _broker(settings: EdgeSettings, blocked: bool) -> Iterator[Finding]:
    """From the cable up, as far as the layer below carries; `blocked` when our own files leave no way above TCP."""
    broker = settings.broker
    seconds = broker.connect_timeout_seconds + LOCAL_SECONDS  # the name service has no deadline of ours
    found = within(seconds, "broker", lambda: connection.tcp(broker))
    yield from found
    blocked = blocked or _failed(found)
    tls = broker.tls
    if tls is not None:
        found = _unless(blocked, ("TLS",), seconds, lambda: connection.tls(broker, tls, connection.utc_now()))
        yield from found
        blocked = blocked or _failed(found)
    yield from _unless(blocked, EXAMINED, seconds + 6 * STEP_SECONDS, lambda: mqtt(settings))


def _unless(blocked: bool, checks: Sequence[str], seconds: float, look_there: Look) -> Sequence[Finding]:
    if blocked:
        return [Finding.skip(check, "not examined, because of the failure above") for check in checks]
    return within(seconds, checks[0], look_there)


def _failed(findings: Sequence[Finding]) -> bool:
    return any(finding.mark is Mark.FAIL for finding in findings)
