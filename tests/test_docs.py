"""The documents say what the code does: every setting, message, topic, verdict, frame and error line is real."""

import ast
import json
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pydantic import BaseModel

from coordinator.job import Job, load_job
from coordinator.settings import ENV_PREFIX, CoordinatorSettings
from edge_client.data_settings import DataKind
from edge_client.gate import GateLimits
from edge_client.policy import Policy, load_policy
from edge_client.settings import ENV_PREFIX as EDGE_PREFIX
from edge_client.settings import EdgeSettings
from shared.compression.frame import PARTITION_WIRE_ID
from shared.compression.partition import PartitionCodec
from shared.compression.plan import Plan
from shared.compression.registry import CODECS
from shared.delta_chain import Step, pack_history
from shared.errors import GradsieveError
from shared.frame import FrameKind, pack_frame
from shared.layout import Layout
from shared.messages import (
    COMMAND,
    COORDINATOR_STATE,
    DEVICE_EVENT,
    DEVICE_STATE,
    ROUND_MANIFEST,
    BlobRef,
    DeclineReason,
    Message,
    dump,
    parse,
)
from shared.settings import load_settings
from shared.topics import Topics
from shared.transfer import Status
from shared.transport import publish_packet_bytes
from shared.update import UpdateHeader, UpdateObject, base_tag, run_tag
from shared.verdicts import Verdict

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
GOLDEN = ROOT / "tests" / "golden"
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)")
ROW = re.compile(r"^\| (.*) \|$", re.MULTILINE)


def document(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """What follows a heading, up to the next one of its rank or above."""
    found = re.search(rf"^(#+) {re.escape(title)}\n", text, re.MULTILINE)
    assert found, f"no heading {title!r}"
    return re.split(rf"^#{{1,{len(found[1])}}} ", text[found.end() :], maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row but heads and rules."""
    cells = [[cell.strip() for cell in match.split(" | ")] for match in ROW.findall(text)]
    return [row for row in cells if row[0].startswith("`")]


def anchor(heading: str) -> str:
    plain = re.sub(r"[^\w\s-]", "", heading.replace("`", "").lower())
    return re.sub(r"\s", "-", plain.strip())


def described_defaults(text: str) -> dict[str, str]:
    return {row[0].strip("`"): row[1] for row in rows(text)}


def model_defaults(model: type[BaseModel], prefix: str = "", optional: bool = False) -> Iterator[tuple[str, str]]:
    """Every key of a settings model, those of its tables too, with its default as the documents write it."""
    for name, field in model.model_fields.items():
        options = get_args(field.annotation) or (field.annotation,)
        tables = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if tables:
            yield from model_defaults(tables[0], f"{prefix}{name}.", optional=type(None) in options)
        elif field.is_required():
            yield prefix + name, f"required with `[{prefix[:-1]}]`" if optional else "required"
        else:
            yield prefix + name, as_toml(field.default)


def as_toml(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return f"`{json.dumps(value)}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str | Path) else f"`{value!r}`"


def toml_examples(text: str) -> list[str]:
    return re.findall(r"```toml\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize(
    ("title", "model"),
    [("Coordinator settings", CoordinatorSettings), ("Device settings", EdgeSettings), ("Job keys", Job)],
)
def test_every_setting_is_described_with_its_default(title: str, model: type[BaseModel]) -> None:
    assert described_defaults(section(document("operations.md"), title)) == dict(model_defaults(model))


def test_every_key_of_a_policy_is_described_with_its_default() -> None:
    assert described_defaults(section(document("devices.md"), "Policy").partition("| reason |")[0]) == dict(
        model_defaults(Policy)
    )


def test_reasons_to_decline_are_those_of_the_code() -> None:
    table = rows(section(document("devices.md"), "Policy").partition("| reason |")[2])
    assert [row[0].strip("`") for row in table] == [reason.value for reason in DeclineReason]


@pytest.mark.parametrize("title", ["Policy", "Noise"])
def test_example_policies_are_policies(title: str, tmp_path: Path) -> None:
    [example] = toml_examples(section(document("devices.md"), title))
    (tmp_path / "policy.toml").write_text(example)
    assert load_policy(tmp_path / "policy.toml") != Policy()


def test_example_settings_of_a_board_are_settings(tmp_path: Path) -> None:
    [gate], data = (toml_examples(section(document("devices.md"), title)) for title in ("Gate", "Data"))
    found = []
    for example in (gate, *data):
        (tmp_path / "device.toml").write_text(example)
        found.append(load_settings(EdgeSettings, tmp_path / "device.toml", EDGE_PREFIX, environment={}))
    assert found[0].gate != GateLimits()
    assert [settings.data_source.kind for settings in found[1:]] == ["csv", "sensor"]


def test_kinds_of_data_are_those_of_the_code() -> None:
    table = rows(section(document("devices.md"), "Data"))
    assert [row[0].strip("`") for row in table] == list(get_args(DataKind))


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(file: Path) -> None:
    for link in LINK.findall(file.read_text(encoding="utf-8")):
        target, _, fragment = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        there = (file.parent / target).resolve() if target else file
        assert there.exists(), f"{file.name} links to {link}, which is not there"
        if fragment and there.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert fragment in map(anchor, headings), f"{file.name} links to {link}, a heading that is not there"


def test_every_document_of_the_folder_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [file.name for file in (ROOT / "docs").glob("*.md") if f"docs/{file.name}" not in readme]
    assert not missing


PARSERS: dict[str, Callable[[bytes], Message]] = {
    **dict.fromkeys(("birth", "death"), partial(parse, DEVICE_STATE)),
    **dict.fromkeys(("heartbeat", "want", "evaluated", "trouble"), partial(parse, DEVICE_EVENT)),
    **dict.fromkeys(("train", "evaluate", "cancel", "rebirth"), partial(parse, COMMAND)),
    "coordinator": partial(parse, COORDINATOR_STATE),
    "round": partial(parse, ROUND_MANIFEST),
}


def test_example_messages_are_the_golden_ones_and_parse() -> None:
    blocks = re.findall(r"```json\n(.*?)```", document("protocol.md"), re.DOTALL)
    shown = {json.loads(block)["kind"]: block for block in blocks}
    golden = {name: json.loads(text) for name, text in json.loads((GOLDEN / "messages.json").read_text()).items()}
    assert {kind: json.loads(block) for kind, block in shown.items()} == golden
    for kind, block in shown.items():
        assert PARSERS[kind](block.encode())


def test_topics_are_those_of_the_code() -> None:
    topics, device = Topics(), "{device}"
    blob = topics.blob("{digest}").replace("+", "{i}")
    public = {topics.coordinator_state(), topics.round_manifest("{run}"), blob}
    up = {topics.device_state(device), topics.heartbeat(device), topics.device_event(device), topics.upload(device)}
    down = {topics.command(device), topics.download(device)}
    assert {row[0].strip("`") for row in rows(section(document("protocol.md"), "Topics"))} == public | up | down


def test_verdicts_are_those_of_the_code() -> None:
    table = rows(section(document("protocol.md"), "Transfers"))
    shown = {row[0].strip("`"): (int(row[1]), row[2] == "yes") for row in table}
    assert shown == {verdict.name: (verdict.value, verdict.is_final) for verdict in Verdict}


def test_frame_kinds_are_those_of_the_code() -> None:
    table = section(document("protocol.md"), "Binary frames")
    shown = dict(re.findall(r"^\| ([A-Z]+) \| (\d+) \|", table, re.MULTILINE))
    assert {name: int(number) for name, number in shown.items()} == {kind.name: kind.value for kind in FrameKind}


def test_status_byte_by_byte_is_the_golden_one() -> None:
    golden = json.loads((GOLDEN / "frames.json").read_text())["status_done"]
    block = section(document("protocol.md"), "Binary frames").partition(f"{golden}\n\n")[2].partition("```")[0]
    listed = "".join(re.match(r"(?:[0-9a-f]{2} )*[0-9a-f]{2}", line)[0] for line in block.splitlines())  # type: ignore[index]  # every line matches
    assert listed.replace(" ", "") == golden


def test_history_byte_by_byte_is_what_the_code_makes() -> None:
    step = Step(bytes.fromhex("cc" * 4), BlobRef(digest="d" * 64, size=900))
    lines = section(document("protocol.md"), "Devices that lag").splitlines()
    assert pack_history([step]).hex() in lines
    field = len('"history":,')
    added = [field + len(dump(BlobRef(digest="d" * 64, size=1 + 38 * rounds))) for rounds in (1, 32)]
    assert "by {} to {} bytes".format(*added) in document("protocol.md")


def test_overheads_are_those_of_the_code() -> None:
    table = [row for row in rows(section(document("protocol.md"), "What it costs")) if len(row) == 3]
    assert table
    header = UpdateHeader(run_tag("shoulder"), base_tag("ab" * 32), 12, 1500, 20, 1.2, 300, 420, 0.01)
    frame = bytes(300)
    payload = pack_frame(FrameKind.WHOLE, UpdateObject(header, frame).pack())
    verdict = Status(bytes(8), Verdict.DONE).pack()
    for name, up, down in table:
        device = name.strip("`")
        assert int(up) == publish_packet_bytes(Topics().upload(device), len(payload), 1) - len(frame)
        assert int(down) == publish_packet_bytes(Topics().download(device), len(verdict), 1)


def test_codecs_are_those_of_the_code() -> None:
    table = rows(section(document("compression.md"), "Baselines"))
    assert {row[0].strip("`"): int(row[1]) for row in table} == {codec.name: codec.wire_id for codec in CODECS}


def test_frame_by_hand_is_what_the_codec_makes() -> None:
    layout = Layout.of([("weight", (4, 64), "weight"), ("bias", (4,), "bias")])
    update = np.zeros(layout.size, np.float32)
    update[[3, 10, 11, 30, 41, 70]] = 0.11, -0.1, 0.09, -0.12, 0.4, -0.1
    frame = PartitionCodec().encode(update, layout, Plan(16)).frame
    assert frame[0] == PARTITION_WIRE_ID
    block = document("compression.md").partition(f"```\n{frame.hex()}\n\n")[2].partition("```")[0]
    listed = "".join(re.match(r"[01 ]+", line)[0] for line in block.splitlines()).replace(" ", "")  # type: ignore[index]  # every line matches
    assert listed == "".join(f"{byte:08b}" for byte in frame)


@cache
def texts_of_the_code() -> list[str]:
    """Every string in the packages, with `…` for what is put in."""
    found: list[str] = []
    for package in ("coordinator", "edge_client", "shared"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return [re.sub(r"%(\.\d+)?[sdf]", "…", text) for text in found]  # log lines put their parts in by `%`


def test_error_lines_are_those_of_the_code() -> None:
    lines = [row[0].strip("`") for row in rows(section(document("operations.md"), "What to do when"))]
    assert len(lines) > 30
    for line in lines:
        pattern = re.compile(".*".join(map(re.escape, line.split("…"))), re.DOTALL)
        assert any(map(pattern.search, texts_of_the_code())), f"no code says {line!r}"


def test_exit_codes_are_those_of_the_code() -> None:
    shown = re.findall(r"^\| (\d+) \|", section(document("operations.md"), "Exit codes"), re.MULTILINE)
    kinds: list[type[GradsieveError]] = [GradsieveError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert {kind.exit_code for kind in kinds} - {GradsieveError.exit_code} <= {int(code) for code in shown}


@pytest.mark.parametrize(
    ("name", "load"),
    [
        ("coordinator.toml", partial(load_settings, CoordinatorSettings, env_prefix=ENV_PREFIX, environment={})),
        ("device.toml", partial(load_settings, EdgeSettings, env_prefix=EDGE_PREFIX, environment={})),
    ],
)
def test_example_settings_load(name: str, load: "partial[CoordinatorSettings | EdgeSettings]") -> None:
    settings = load(file=ROOT / "deploy" / "examples" / name)
    assert settings.broker.tls is not None


def test_example_policy_loads() -> None:
    assert load_policy(ROOT / "deploy" / "examples" / "policy.toml") != Policy()


def test_example_job_loads() -> None:
    assert load_job(ROOT / "deploy" / "examples" / "job.toml").task == "watch"
