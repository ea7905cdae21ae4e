"""Bad input of every kind: each ends in one line that names the thing and the remedy, or in a typed refusal."""

import json
import logging
import os
import random
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from coordinator import main as coordinator_program
from coordinator.assembly import assembled_run
from coordinator.broker import DevBroker
from coordinator.commands import serve
from coordinator.job import Fleet, Job, Work
from coordinator.records import RefusalRecord, RoundRecord
from coordinator.run_entry import signing_key
from coordinator.run_folder import RunFolder
from coordinator.settings import CoordinatorSettings
from edge_client import main as edge_program
from edge_client.agent import Agent
from edge_client.data import FolderSource
from edge_client.inline_trainer import InlineTrainer
from edge_client.outbox import Outbox
from edge_client.settings import EdgeSettings
from shared.folder_lock import folder_lock
from shared.frame import FrameKind, pack_frame, unpack_frame
from shared.messages import COMMAND, ROUND_MANIFEST, Birth, EvaluateCommand, Evaluated, RoundManifest, dump, parse
from shared.paho_transport import PahoTransport
from shared.settings import BrokerSettings
from shared.signing import SIGNATURE_BYTES, SigningKey
from shared.topics import Topics
from shared.transfer import Open, Status, id_of
from shared.transport import Connected, Publication, Received, Subscribed
from shared.update import UpdateHeader, UpdateObject, base_tag, run_tag
from shared.varint import Reader
from shared.verdicts import Verdict

pytestmark = pytest.mark.broker

TOPICS = Topics()
STRANGER = SigningKey(bytes(32)).verify_key.hex
JOB = 'name = "small"\ntask = "watch"\nrounds = 2\n'


@pytest.fixture(autouse=True)
def logging_of_the_test_run() -> Iterator[None]:
    """The programs take over the root logger: give it back, and close their files."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


@dataclass
class Console:
    """Calls the programs as a user does, in this process; returns exit code and the one line on standard error."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    def gradsieve(self, *arguments: str) -> tuple[int, str]:
        self.monkeypatch.setattr(sys, "argv", ["gradsieve", *arguments])
        with pytest.raises(SystemExit) as ended:
            coordinator_program.main()
        return self._ended(ended.value.code, "gradsieve: ")

    def edge(self, *arguments: str) -> tuple[int, str]:
        return self._ended(edge_program.main(["run", *arguments]), "gradsieve-edge: ")

    def _ended(self, code: object, prefix: str) -> tuple[int, str]:
        assert isinstance(code, int)
        lines = [line for line in self.capsys.readouterr().err.splitlines() if line.startswith(prefix)]
        assert len(lines) == 1, lines
        return code, lines[0].removeprefix(prefix)


@pytest.fixture
def console(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Console:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder").mkdir()
    (tmp_path / "job.toml").write_text(JOB)
    return Console(tmp_path, capsys, monkeypatch)


JOBS = {
    "empty": ("", "name is missing: set it in the file or as GRADSIEVE_JOB_NAME (and 1 more)"),
    "unknown key": (JOB + "[work]\nstep = 3", "unknown key work.step: did you mean steps?"),
    "unknown table": (JOB + "[flete]\n", "unknown key flete: did you mean fleet?"),
    "negative rounds": (JOB.replace("2", "-2"), "rounds: Input should be greater than or equal to 1"),
    "text for a number": (JOB.replace("2", '"two"'), "rounds: Input should be a valid integer"),
    "number for a table": (JOB + "fleet = 3", "fleet: Input should be a valid dictionary"),
    "infinite wait": (JOB + "[fleet]\nround_seconds = inf", "fleet.round_seconds: Input should be a finite number"),
    "NaN": (JOB + "[work]\nlearning_rate = nan", "work.learning_rate: Input should be a finite number"),
    "huge seed": (JOB + "seed = 9007199254740993", "seed: Input should be less than or equal to"),
    "unknown codec": (JOB + '[sieve]\ncodec = "zip"', "sieve.codec: no codec is called 'zip': choose one of partition"),
    "unknown task": (JOB.replace("watch", "clock"), "task 'clock' is unknown: choose one of drill, watch"),
    "name with a space": (JOB.replace("small", "my job"), "name: String should match pattern"),
    "not TOML": ("name: small", "is not valid TOML"),
}


@pytest.mark.parametrize("situation", JOBS)
def test_wrong_job_file_is_one_line_and_code_78(situation: str, console: Console) -> None:
    text, expected = JOBS[situation]
    (console.folder / "job.toml").write_text(text)
    code, line = console.gradsieve("run", "job.toml", "--out", "run")
    assert (code, expected in line) == (78, True), line
    assert "job.toml" in line or "unknown task" in situation
    assert not (console.folder / "run" / "journal.sqlite").exists()


COMMANDS = {
    "job file is a folder": ("run folder", 78, "folder: cannot be read (Is a directory): check the path"),
    "job file is absent": ("run absent.toml", 78, "absent.toml: cannot be read (No such file or directory)"),
    "broker without port": ("run job.toml --broker here", 78, "--broker: 'here' is not HOST:PORT, such as 127"),
    "broker with a huge port": ("run job.toml --broker a:99999", 78, "--broker: 'a:99999' is not HOST:PORT"),
    "out is a file": ("run job.toml --out file", 70, "file cannot be made (File exists): choose another --out"),
    "out is below a file": ("run job.toml --out file/x", 70, "cannot be made (Not a directory): choose another --out"),
    "resume without a run": ("run job.toml --resume --out x", 70, "x holds no run to resume: leave out --resume"),
    "status without a run": ("status folder", 70, "folder holds no run: name the folder that was given as --out"),
    "report without a run": ("report folder", 70, "folder holds no run: name the folder that was given as --out"),
    "settings file is absent": ("run job.toml --config x.toml", 78, "x.toml: cannot be read"),
    "no jobs folder": ("serve --jobs absent", 78, "absent: no such folder; make it and put job files into it"),
    "demo into a file": ("demo --out file", 74, "Not a directory: 'file': check the path, its rights"),
    "demo into a full folder": ("demo --out .", 70, "is not empty and no demo made it: choose another --out"),
}


@pytest.mark.parametrize("situation", COMMANDS)
def test_wrong_command_is_one_line_with_its_own_code(situation: str, console: Console) -> None:
    arguments, code, expected = COMMANDS[situation]
    found, line = console.gradsieve(*arguments.split())
    assert (found, expected in line) == (code, True), (found, line)


@pytest.mark.parametrize("rounds", ["0", "-1", "many"])
def test_demo_of_no_rounds_is_wrong_usage(rounds: str, console: Console) -> None:
    console.monkeypatch.setattr(sys, "argv", ["gradsieve", "demo", "--rounds", rounds])
    with pytest.raises(SystemExit) as ended:
        coordinator_program.main()
    assert ended.value.code == 2
    assert "'--rounds'" in console.capsys.readouterr().err


def test_service_passes_over_a_wrong_job_and_says_so_at_the_end(console: Console) -> None:
    console.monkeypatch.setattr(serve, "POLL_SECONDS", 0.0)
    (console.folder / "folder" / "bad.toml").write_text("colour = 3")
    expected = "not finished: bad.toml: the log says why"
    assert console.gradsieve("serve", "--jobs", "folder", "--once") == (70, expected)


def test_variables_for_devices_and_jobs_do_not_disturb_the_coordinator(console: Console) -> None:
    for name in ("GRADSIEVE_EDGE_NAME", "GRADSIEVE_JOB_SEED", "GRADSIEVE_DATA"):
        console.monkeypatch.setenv(name, "7")
    console.monkeypatch.setenv("GRADSIEVE_BROKER__PROT", "7")
    assert console.gradsieve("run", "job.toml")[1] == (
        "environment variable GRADSIEVE_BROKER__PROT: unknown key broker.prot: did you mean port?"
    )


def test_journal_that_is_none_is_named(console: Console) -> None:
    (console.folder / "folder" / "journal.sqlite").write_text("once upon a time " * 100)
    code, line = console.gradsieve("status", "folder")
    assert code == 70
    assert "folder/journal.sqlite is not usable: file is not a database; restore it from a backup" in line


FLAGS = {"--name": "board-1", "--broker": "127.0.0.1:1", "--data": "folder", "--state": "state", "--trust": STRANGER}
DEVICES: dict[str, tuple[dict[str, str | None], int, str]] = {
    "capitals in the name": ({"--name": "Board"}, 78, "--name: name: device name 'Board': use 1 to 48 of a-z"),
    "no name": ({"--name": None}, 78, "name is missing: set it in the file or as GRADSIEVE_EDGE_NAME"),
    "no such key file": ({"--trust": "who.pub"}, 78, "neither a key of 64 hex digits nor a key file: who.pub"),
    "key file is none": ({"--trust": "file"}, 78, "file: not a key file"),
    "no data folder": ({"--data": "absent"}, 66, "data folder absent: is not there: create it or name another"),
    "data folder is a file": ({"--data": "file"}, 66, "data folder file: is not there: create it or name another"),
    "state folder is a file": ({"--state": "file"}, 78, "file: File exists: choose one that this user can write"),
    "broker away": ({}, 69, "no broker at 127.0.0.1:1 within 0.5 s: 127.0.0.1:1 refused the connection: is the broker"),
    "impossible host": ({"--broker": "..:1883"}, 69, "host name '..' is not a valid one: check broker.host"),
    "unknown key in the settings": ({"--config": "edge.toml"}, 78, "edge.toml: unknown key colour: known keys are"),
}


@pytest.mark.parametrize("situation", DEVICES)
def test_wrongly_started_device_is_one_line_with_its_own_code(situation: str, console: Console) -> None:
    changes, code, expected = DEVICES[situation]
    (console.folder / "edge.toml").write_text("colour = 3")
    given: dict[str, str | None] = {**FLAGS, "--connect-seconds": "0.5", **changes}
    found, line = console.edge(*(part for flag, text in given.items() if text is not None for part in (flag, text)))
    assert (found, expected in line) == (code, True), (found, line)


def test_second_device_in_a_state_folder_is_refused_with_the_first_ones_process(console: Console) -> None:
    with folder_lock(console.folder / "state"):
        code, line = console.edge(*(part for pair in FLAGS.items() for part in pair))
    assert (code, line) == (75, f"state: process {os.getpid()} works in it: end that one, or name another folder")


def test_device_at_a_broker_of_tiny_packets_says_what_to_raise(tmp_path: Path) -> None:
    """A broker that announces packets of 512 bytes in its CONNACK, and nothing else."""
    connack = bytes((0x20, 8, 0, 0, 5, 0x27, 0, 0, 2, 0))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        thread = threading.Thread(target=_answer_once, args=(server, connack), daemon=True)
        thread.start()
        transport = PahoTransport(BrokerSettings(port=port), "x", random.Random(1))
        transport.connect(None)
        event = transport.receive(10)
        transport.close()
        thread.join(10)
    needs = "takes packets of at most 512 bytes, we need 2048: raise the broker's max_packet_size"
    assert needs in str(event), event


def _answer_once(server: socket.socket, answer: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(answer)
        connection.recv(4096)


@pytest.fixture(scope="module")
def interrupted_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interrupted")


@pytest.fixture
def interrupted(interrupted_folder: Path, console: Console) -> Console:
    """A console beside a run folder whose broker never was there; the run itself is begun but once."""
    console.folder = interrupted_folder
    console.monkeypatch.chdir(interrupted_folder)
    console.monkeypatch.setenv("GRADSIEVE_CONNECT_SECONDS", "0.2")
    (interrupted_folder / "job.toml").write_text(JOB)
    if not (interrupted_folder / "run").exists():
        assert console.gradsieve(*BEGIN) == BROKER_AWAY
    return console


BEGIN = ("run", "job.toml", "--out", "run", "--broker", "127.0.0.1:1")
RESUME = (*BEGIN, "--resume")
BROKER_AWAY = (
    69,
    "waited 0.2 s for the broker at 127.0.0.1:1: 127.0.0.1:1 refused the connection: "
    "is the broker running, and is broker.port right?",
)


def test_run_whose_broker_was_away_is_resumed_when_it_is_back(interrupted: Console) -> None:
    assert interrupted.gradsieve(*RESUME) == BROKER_AWAY


def test_folder_that_holds_a_run_asks_for_resume(interrupted: Console) -> None:
    expected = "run holds a run already: continue it with --resume, or choose another --out"
    assert interrupted.gradsieve(*BEGIN) == (70, expected)


def test_changed_job_is_refused_with_what_differs(interrupted: Console) -> None:
    (interrupted.folder / "job.toml").write_text(JOB.replace("2", "3") + "[work]\nsteps = 7")
    code, line = interrupted.gradsieve(*RESUME)
    assert code == 70
    assert "the job file now says rounds = 3 instead of 2, work.steps = 7 instead of 50: change it back" in line


def test_second_coordinator_is_refused_with_the_first_ones_process(interrupted: Console) -> None:
    with folder_lock(interrupted.folder / "run"):
        code, line = interrupted.gradsieve(*RESUME)
    assert (code, line) == (75, f"run: process {os.getpid()} works in it: end that one, or name another folder")


def test_key_that_everybody_can_read_is_refused(interrupted: Console) -> None:
    key = interrupted.folder / "coordinator.key"
    key.chmod(0o644)
    try:
        expected = "coordinator.key: a private key that every user can read: chmod 600 coordinator.key"
        assert interrupted.gradsieve(*RESUME) == (78, expected)
    finally:
        key.chmod(0o600)


def test_another_key_than_the_run_began_with_is_refused(interrupted: Console) -> None:
    SigningKey.generate().save(interrupted.folder / "other.key")
    interrupted.monkeypatch.setenv("GRADSIEVE_KEY_FILE", "other.key")
    code, line = interrupted.gradsieve(*RESUME)
    assert code == 70
    assert line.startswith("run/bundle.gsb: bundle watch")
    assert "not among the trusted keys: resume with the key_file and the files that the run began with" in line


DAMAGES: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "weights cut short": ("initial.f32", lambda whole: whole[:-3], "bytes, the model"),
    "bundle overwritten": ("bundle.gsb", lambda whole: whole[:-100] + bytes(100), "bundle.gsb: bundle"),
    "bundle empty": ("bundle.gsb", lambda whole: b"", "bundle.gsb: bundle: magic at byte 0"),
    "journal overwritten": ("journal.sqlite", lambda whole: b"\xaa" * len(whole), "file is not a database; restore it"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_of_a_run_is_named(damage: str, interrupted: Console) -> None:
    name, spoil, expected = DAMAGES[damage]
    file = interrupted.folder / "run" / name
    whole = file.read_bytes()
    file.write_bytes(spoil(whole))
    code, line = interrupted.gradsieve(*RESUME)
    file.write_bytes(whole)
    assert (code, expected in line) == (70, True), line


@dataclass
class Mallory:
    """A device of the cohort that sends what no honest one would, and keeps the verdicts it gets."""

    settings: BrokerSettings
    verdicts: dict[bytes, Status] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    replayed: bytes = b""
    _manifest: RoundManifest | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self) -> Iterator["Mallory"]:
        transport = PahoTransport(self.settings, "mallory", random.Random(3))
        transport.connect(None)
        thread = threading.Thread(target=self._serve, args=(transport,), name="mallory")
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join(10)
            transport.close()

    def _serve(self, transport: PahoTransport) -> None:
        while not self._stop.is_set():
            match transport.receive(0.2):
                case Connected():
                    down = (TOPICS.command("mallory"), TOPICS.download("mallory"))
                    transport.subscribe(*down, TOPICS.all_uplinks(), TOPICS.all_round_manifests())
                case Subscribed():
                    state = TOPICS.device_state("mallory")
                    transport.publish(Publication(state, dump(Birth(connection=1, agent="evil\n\x1b[2J")), retain=True))
                case Received(topic, payload) if payload:
                    for publication in self._answer(topic, payload):
                        transport.publish(publication)

    def _answer(self, topic: str, payload: bytes) -> list[Publication]:
        if topic == TOPICS.download("mallory"):
            status = Status.unpack(unpack_frame(payload).body)
            self.verdicts[status.transfer_id] = status
        elif topic.startswith("gs/v1/pub/run/small"):
            reader = Reader(unpack_frame(payload).body[SIGNATURE_BYTES:], "manifest")
            self._manifest = parse(ROUND_MANIFEST, reader.take(reader.varint(1 << 20)))
        elif topic == TOPICS.command("mallory") and self._manifest:
            command = parse(COMMAND, unpack_frame(payload).body[SIGNATURE_BYTES:])
            if isinstance(command, EvaluateCommand):
                return [_event(Evaluated(run=r, server_round=command.server_round, loss=0.0, correct=k, examples=10))
                        for r, k in (("other-run", 9), (command.run, 1_000_000))]  # fmt: skip
            return _nonsense() + self._updates(self._manifest) if self._manifest.server_round == 1 else []
        elif topic == TOPICS.upload("board-a") and self._manifest and self._manifest.server_round == 2:
            frame = unpack_frame(payload)
            if frame.kind is FrameKind.WHOLE and not self.replayed:
                self.replayed = frame.body
                return [Publication(TOPICS.upload("mallory"), payload)]
        return []

    def _updates(self, manifest: RoundManifest) -> list[Publication]:
        size = manifest.model.size // 4
        nan = b"\x03" + np.full(size, np.nan, "<f4").tobytes()
        self.objects = {
            "NaN": _update(manifest, nan),
            "wrong layout": _update(manifest, b"\x03" + bytes(4 * size - 4)),
            "huge values": _update(manifest, b"\x03" + np.full(size, 3e38, "<f4").tobytes()),
            "garbage": random.Random(1).randbytes(3000),
            "no frame": _update(manifest, b""),
            "no examples": _update(manifest, b"\x03" + bytes(4 * size), examples=0),
            "unknown codec": _update(manifest, b"\xfe" + bytes(100)),
            "another run": _update(manifest, b"", run="another"),
            "another base": _update(manifest, b"", base="ab" * 32),
            "another round": _update(manifest, b"", server_round=7),
            "too long": bytes(4 * size + 5000),
        }
        huge = Open(1 << 30, 1 << 20, bytes(range(32)))
        frames = [pack_frame(FrameKind.WHOLE, content) for content in self.objects.values()]
        return [Publication(TOPICS.upload("mallory"), frame) for frame in [huge.pack(), *frames]]


def _update(
    manifest: RoundManifest, frame: bytes, examples: int = 10, run: str = "", base: str = "", server_round: int = 1
) -> bytes:
    tags = run_tag(run or manifest.run), base_tag(base or manifest.model.digest)
    return UpdateObject(UpdateHeader(*tags, server_round, examples, 1, 0.5, 0, 0, 0.1), frame).pack()


def _event(event: Evaluated) -> Publication:
    return Publication(TOPICS.device_event("mallory"), dump(event))


def _nonsense() -> list[Publication]:
    """Messages that are no messages, on topics that devices write to, and on those that only a coordinator should."""
    frame = bytearray(pack_frame(FrameKind.WHOLE, b"x" * 50))
    newer = bytes((*frame[:2], frame[2] + 16, *frame[3:]))
    up = {
        "x": [b"\xff" * 100, b"gs", bytes(frame[:-9]), newer, bytes((*frame[:-1], frame[-1] ^ 1))],
        "evt": [b"{", b'{"kind":"evaluated"}', b'{"kind":"bri\nbe"}', b"[" * 5000, b"1" * 40_000],
        "hb": [b"\xff\xfe", b'{"kind":"heartbeat","phase":"p","sent_bytes":-1,"received_bytes":1e400}'],
        "state": [b"[]"],
        "colour": [b"red"],
    }
    sent = [Publication(f"gs/v1/up/mallory/{channel}", p) for channel, payloads in up.items() for p in payloads]
    sent += [Publication(f"gs/v1/up/{name}/x", b"?") for name in ("Mallory", "-", "a" * 49)]
    spoof = b'{"kind":"coordinator","online":false,"epoch":"evil"}'
    return [*sent, Publication(TOPICS.coordinator_state(), spoof), Publication(TOPICS.command("board-a"), spoof)]


class Log(logging.Handler):
    """Every line that coordinator and devices logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@dataclass
class Ordeal:
    """What came of the run: its figures, journal, verdicts and log."""

    folder: Path
    mallory: Mallory
    log: list[str]
    final: dict[str, float] = field(default_factory=dict)
    rounds: list[RoundRecord] = field(default_factory=list)
    refusals: list[RefusalRecord] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def accepted_in(self, server_round: int) -> float:
        return self.rounds[server_round - 1].figures["updates"]

    def trouble_of(self, device: str) -> str:
        (line, *_) = [text for text in self.troubles if text.startswith(device)]
        return line


def _scribble(folder: Path) -> None:
    (folder / "a.npz").write_bytes(b"PK\x03\x04 and then nothing")


def _series(folder: Path, channels: int = 6, label: int = 1, value: float = 0.0) -> None:
    draw = np.random.default_rng(channels)
    for number in range(4):
        x = draw.standard_normal((1200, channels)).astype(np.float32)
        x[300] += np.float32(value)
        np.savez(folder / f"series-{number}.npz", x=x, y=np.int64(label))


RECORDINGS: dict[str, Callable[[Path], None]] = {
    "board-a": _series,
    "board-b": lambda folder: _series(folder, label=2),
    "doubter": _series,
    "empty": lambda folder: None,
    "nan": lambda folder: _series(folder, value=float("nan")),
    "narrow": lambda folder: _series(folder, channels=2),
    "mislabelled": lambda folder: _series(folder, label=99),
    "scribbler": _scribble,
}


@contextmanager
def _device(folder: Path, name: str, broker: BrokerSettings, trusted: str) -> Iterator[threading.Event]:
    """A device in a thread of this process, the trainer inline."""
    data = folder / name / "data"
    data.mkdir(parents=True)
    RECORDINGS[name](data)
    settings = EdgeSettings(
        broker=broker, name=name, data=data, state_dir=folder / name, trusted_signers=(trusted,), trainer="inline"
    )
    transport = PahoTransport(broker, name, random.Random(name))
    trainer = InlineTrainer(settings.state_dir, FolderSource(data), lambda: 0.0)
    agent, stop = Agent(settings, Outbox(settings.state_dir), transport, trainer), threading.Event()
    thread = threading.Thread(target=agent.run, args=(stop,), name=name)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        transport.wake()
        thread.join(20)


@pytest.fixture(scope="module")
def ordeal(tmp_path_factory: pytest.TempPathFactory) -> Ordeal:
    """Two rounds of two honest devices among six that cannot train and one that attacks, over a real broker."""
    folder, log = tmp_path_factory.mktemp("ordeal"), Log()
    fleet = Fleet(minimum_devices=len(RECORDINGS) + 1, round_seconds=6, gather_seconds=30)
    job = Job(name="small", task="watch", rounds=2, work=Work(steps=5), fleet=fleet)
    with ExitStack() as stack:
        logging.getLogger().addHandler(log)
        stack.callback(logging.getLogger().removeHandler, log)
        level = logging.getLogger().level
        logging.getLogger().setLevel(logging.INFO)
        stack.callback(logging.getLogger().setLevel, level)
        broker = stack.enter_context(DevBroker()).settings
        settings = CoordinatorSettings(broker=broker, key_file=folder / "coordinator.key")
        trusted = signing_key(settings.key_file).verify_key.hex
        _leave_garbage(broker)
        stops = {
            name: stack.enter_context(
                _device(folder / "devices", name, broker, STRANGER if name == "doubter" else trusted)
            )
            for name in RECORDINGS
        }
        result = Ordeal(folder / "run", stack.enter_context(Mallory(broker).at_work()), log.lines)
        closed: Callable[[RoundRecord], None] = lambda record: stops["doubter"].set()  # noqa: E731 - one statement
        with assembled_run(job, RunFolder(result.folder), settings, on_closed=closed) as run:
            result.final = run.execute()
            run.finish()
            result.rounds, result.refusals = run.journal.rounds(run.id), run.journal.refusals(run.id)
            result.troubles = [event.text for event in run.journal.events(run.id) if event.kind == "trouble"]
    return result


def _leave_garbage(broker: BrokerSettings) -> None:
    """Retained on the topics that devices believe in, before any of them is there."""
    transport = PahoTransport(broker, "vandal", random.Random(1))
    transport.connect(None)
    assert isinstance(transport.receive(10), Connected)
    for topic in (TOPICS.round_manifest("evil"), TOPICS.coordinator_state(), TOPICS.device_state("vandal")):
        transport.publish(Publication(topic, b"\x00garbage" * 1000, retain=True))
    transport.close()


def test_run_among_enemies_ends_with_the_updates_of_the_honest(ordeal: Ordeal) -> None:
    assert [ordeal.accepted_in(1), ordeal.accepted_in(2)] == [2, 2]
    assert ordeal.final["devices"] == 2
    assert 0 <= ordeal.final["accuracy"] <= 1


VERDICTS = {
    "NaN": (Verdict.REFUSED, "dense frame holds NaN or infinity"),
    "wrong layout": (Verdict.REFUSED, "this layout needs"),
    "garbage": (Verdict.REFUSED, "malformed: update: "),
    "no frame": (Verdict.REFUSED, "malformed: it has no codec frame"),
    "no examples": (Verdict.REFUSED, "0 examples are not within 1 to 1000000"),
    "unknown codec": (Verdict.UNSUPPORTED, "no codec has wire id 254"),
    "huge values": (Verdict.REFUSED, "that this round takes"),
    "another run": (Verdict.RETRY_AFTER, "made for another run"),
    "another base": (Verdict.WRONG_BASE, "trained from model abababab, this round's is"),
    "another round": (Verdict.STALE_ROUND, "made for round 7, not 1"),
    "too long": (Verdict.TOO_LARGE, "bytes, at most"),
}


@pytest.mark.parametrize("what", VERDICTS)
def test_hostile_update_gets_its_verdict_and_is_in_the_journal(what: str, ordeal: Ordeal) -> None:
    verdict, reason = VERDICTS[what]
    content = ordeal.mallory.objects[what]
    status = ordeal.mallory.verdicts[id_of(content)]
    assert (status.verdict, reason in status.reason) == (verdict, True), status
    if verdict not in (Verdict.TOO_LARGE, Verdict.RETRY_AFTER):  # not kept long enough to be judged; not ours to judge
        assert any(r.device == "mallory" and r.verdict is verdict and reason in r.reason for r in ordeal.refusals)


def test_huge_offer_is_refused_before_anything_is_allocated(ordeal: Ordeal) -> None:
    status = ordeal.mallory.verdicts[bytes(range(8))]
    assert status.verdict is Verdict.TOO_LARGE
    assert status.reason.startswith("1073741824 bytes, at most")
    assert list((ordeal.folder / "spool").iterdir()) == []


def test_replay_of_another_devices_update_is_refused(ordeal: Ordeal) -> None:
    status = ordeal.mallory.verdicts[id_of(ordeal.mallory.replayed)]
    assert (status.verdict, status.reason) == (
        Verdict.REFUSED,
        "the very bytes that board-a sent: a device must send its own update",
    )


TROUBLES = {
    "doubter": "doubter reports wrong_message: gs/v1/pub/",
    "empty": "empty reports data_error: ",
    "nan": "nan reports data_error: series-0.npz: nan at row 300, channel 0; remove the recording or fill the gap",
    "narrow": "narrow reports data_error: series-0.npz: shape (1200, 2), expected [samples, 6 channels]",
    "mislabelled": "mislabelled reports data_error: series-0.npz: label 99 is not one of 0 to 6",
    "scribbler": "scribbler reports data_error: a.npz: not a readable .npz file",
    "mallory": "mallory: refused a message on 'gs/v1/up/mallory/x': frame: magic ffff instead of 6773",
    "a stranger": "a stranger: refused a message on 'gs/v1/up/Mallory/x': not an uplink topic of root 'gs'",
    "vandal": "vandal: refused a message on 'gs/v1/up/vandal/state': control message: ",
}


@pytest.mark.parametrize("who", TROUBLES)
def test_operator_sees_whose_trouble_it_is(who: str, ordeal: Ordeal) -> None:
    assert TROUBLES[who] in ordeal.trouble_of(who)
    assert any(TROUBLES[who] in line for line in ordeal.log)


def test_status_shows_the_troubles(ordeal: Ordeal, console: Console) -> None:
    console.monkeypatch.setattr(sys, "argv", ["gradsieve", "status", str(ordeal.folder), "--json"])
    with pytest.raises(SystemExit) as ended:
        coordinator_program.main()
    assert not ended.value.code
    (row,) = json.loads(console.capsys.readouterr().out)
    assert row["state"] == "finished"
    assert any("reports data_error" in line for line in row["troubles"])


def test_device_of_another_key_says_so_at_most_once_a_minute(ordeal: Ordeal) -> None:
    lines = [line for line in ordeal.log if line.startswith("doubter: message ignored")]
    topics = [line.split(": ")[2] for line in lines]
    assert len(topics) == len(set(topics)) <= 5
    remedy = "signed by another key than the trusted 3b6a27bc…, altered, or meant for another topic: give this device"
    assert any(remedy in line for line in lines)


def test_unsigned_words_in_the_coordinators_name_are_ignored(ordeal: Ordeal) -> None:
    ignored = [line for line in ordeal.log if line.startswith("board-a: message ignored")]
    assert 1 <= len(ignored) <= 3
    assert all("not sealed, so anybody may have sent it" in line for line in ignored)


def test_log_stays_one_line_a_message_and_short(ordeal: Ordeal) -> None:
    assert all(line.isprintable() for line in ordeal.log)
    assert max(len(line) for line in ordeal.log) < 700
    assert len([line for line in ordeal.log if "refused a message" in line]) <= 4
