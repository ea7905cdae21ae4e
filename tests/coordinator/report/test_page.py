import json
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from coordinator.job import Job
from coordinator.journal import Journal
from coordinator.records import UpdateFacts
from coordinator.report.page import write_report
from coordinator.run_folder import RunFolder
from shared.bundle import BundleManifest, file_entries, pack_bundle, sign_bundle
from shared.compression.plan import Plan
from shared.layout import Layout
from shared.signing import SigningKey
from shared.verdicts import Ruling, Verdict

RUN = "gait-1"
JOB = Job(name="gait", task="gait", rounds=4).model_dump_json()
LAYOUT = Layout.of([("conv.weight", (8, 64), "weight"), ("conv.bias", (8,), "bias")])
VOID = {"meta", "link", "br", "img", "hr", "input"}
HOSTILE = "<script>alert('x')</script>\"&\x00"


class Page(HTMLParser):
    """Checks that every element is closed in order, and gathers elements, attributes and words."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []

    @classmethod
    def of(cls, path: Path) -> "Page":
        page = cls()
        page.feed(path.read_text(encoding="utf-8"))
        page.close()
        assert page.open == []
        return page

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def facts(correct: int = 50, examples: int = 200) -> UpdateFacts:
    return UpdateFacts(examples, 50, 0.5, correct, 100, 315, 333, 60, 20, 0.01, (70, 10), 1.0)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


@pytest.fixture
def journal(folder: RunFolder) -> Iterator[Journal]:
    journal = Journal.open(folder.journal, clock=lambda: 1_750_000_000.0)
    yield journal
    journal.close()


def write_bundle(folder: RunFolder) -> None:
    files = {"train.onnx": b"graph"}
    manifest = BundleManifest(
        name="gait",
        version="1",
        task="classification",
        input_shape=(3, 64),
        num_classes=2,
        preprocessing={},
        layout=tuple((tensor.name, tensor.shape, tensor.role) for tensor in LAYOUT.tensors),
        files=file_entries(files),
        estimated_peak_bytes=1,
    )
    folder.bundle.write_bytes(pack_bundle(sign_bundle(manifest, SigningKey.generate()), files))


def plan() -> bytes:
    classes = np.array([8, 8, 3, 3, 0, 0, 0, 0, 8], np.uint8)
    assert len(classes) == LAYOUT.num_blocks
    return Plan(300, classes).to_bytes()


def train(journal: Journal, server_round: int, cohort: list[str], senders: list[str], accuracy: float = 0.5) -> None:
    journal.open_round(RUN, server_round, "base", cohort, plan())
    for name in senders:
        journal.accept(RUN, server_round, name, f"{server_round} {name}".encode(), facts())
    journal.freeze_round(RUN, server_round)
    figures = {"updates": len(senders), "base_accuracy": accuracy, "uplink_bytes": 400.0 * len(senders)}
    journal.close_round(RUN, server_round, "model", "checkpoint", figures | {"published_bytes": 5000.0})


def test_figures_on_the_page_are_those_of_journal_and_summary(folder: RunFolder, journal: Journal) -> None:
    write_bundle(folder)
    journal.create_run(RUN, JOB)
    train(journal, 1, ["a", "b"], ["a", "b"], 0.25)
    train(journal, 2, ["a", "b"], ["a"], 0.5)
    journal.note(RUN, "final", "accuracy=0.875 loss=0.2 devices=2.0")
    journal.finish_run(RUN, "finished")
    folder.summary.write_text(json.dumps({"accuracy_pooled": 0.98, "accuracy_alone_mean": 0.64, "wall_seconds": 61}))
    text = Page.of(write_report(folder)).text
    assert "2 devices trained \N{LEFT DOUBLE QUOTATION MARK}gait" in text
    assert "a model of 520 values, in 2 rounds" in text
    assert "87.5 % alone 64.0 %, all data in one place 98.0 %" in text
    dense_bytes, sent_bytes = 3 * 4 * 520, 3 * 400
    assert dense_bytes / sent_bytes == pytest.approx(5.2)
    assert "1.2 kB 5.2\N{MULTIPLICATION SIGN} less than dense: 6.24 kB, at 4 bytes a value" in text
    assert "b: 1 accepted, 0 refused, 1 missed" in text
    assert "3 updates accepted" in text
    assert "Nothing was refused." in text


def test_plan_of_the_last_round_stands_beside_each_layer(folder: RunFolder, journal: Journal) -> None:
    write_bundle(folder)
    journal.create_run(RUN, JOB)
    train(journal, 1, ["a"], ["a"])
    text = Page.of(write_report(folder)).text
    assert "25 / 25 / 50 %" in text
    assert "100 / 0 / 0 %" in text
    assert "70 of 512" in text


def test_page_refers_to_nothing_outside_and_runs_no_script(folder: RunFolder, journal: Journal) -> None:
    write_bundle(folder)
    journal.create_run(RUN, JOB)
    train(journal, 1, ["a"], ["a"])
    page = Page.of(write_report(folder))
    assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(page.tags)
    assert not {"src", "href", "xlink:href", "srcset", "action"} & {name for _, name, _ in page.attributes}
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    text = folder.report.read_text(encoding="utf-8")
    assert "url(" not in text
    assert "@import" not in text
    assert "://" not in text
    policies = [value for tag, name, value in page.attributes if tag == "meta" and "default-src" in value]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_every_chart_has_title_and_description_of_its_own(folder: RunFolder, journal: Journal) -> None:
    write_bundle(folder)
    journal.create_run(RUN, JOB)
    train(journal, 1, ["a"], ["a"])
    page = Page.of(write_report(folder))
    ids = [value for _, name, value in page.attributes if name == "id"]
    named = [value.split() for tag, name, value in page.attributes if (tag, name) == ("svg", "aria-labelledby")]
    assert len(named) == 6
    assert sorted(chain.from_iterable(named)) == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert page.tags["title"] == page.tags["svg"] + 1
    assert page.tags["details"] == 3


def test_hostile_names_and_reasons_are_only_ever_text(folder: RunFolder, journal: Journal) -> None:
    journal.create_run(RUN, JOB)
    train(journal, 1, [HOSTILE], [HOSTILE])
    journal.refuse(RUN, 1, HOSTILE, Ruling(Verdict.REFUSED, HOSTILE * 100), "digest", 10)
    journal.note(RUN, HOSTILE, HOSTILE)
    journal.finish_run(RUN, "failed", HOSTILE)
    page = Page.of(write_report(folder))
    assert page.tags["script"] == 0
    assert HOSTILE.replace("\x00", "\N{REPLACEMENT CHARACTER}") in page.text
    assert "\x00" not in folder.report.read_text(encoding="utf-8")
    assert folder.report.stat().st_size < 40_000


def test_refused_and_silent_devices_are_told_apart(folder: RunFolder, journal: Journal) -> None:
    journal.create_run(RUN, JOB)
    journal.open_round(RUN, 1, "base", ["good", "bad", "silent"], Plan(300).to_bytes())
    journal.accept(RUN, 1, "good", b"update", facts())
    journal.refuse(RUN, 1, "bad", Ruling(Verdict.TOO_LARGE, "9999 bytes"), "digest", 9999)
    journal.freeze_round(RUN, 1)
    journal.close_round(RUN, 1, "model", "checkpoint", {"uplink_bytes": 400.0})
    text = Page.of(write_report(folder)).text
    assert "bad: 0 accepted, 1 refused, 0 missed" in text
    assert "silent: 0 accepted, 0 refused, 1 missed" in text
    assert "1 bad 10 kB 1 too large 9999 bytes" in text
    assert "had no plan of blocks to show" in text


def test_open_round_is_pending_not_missed(folder: RunFolder, journal: Journal) -> None:
    journal.create_run(RUN, JOB)
    train(journal, 1, ["a"], ["a"], 0.25)
    journal.open_round(RUN, 2, "base", ["a"], b"")
    text = Page.of(write_report(folder)).text
    assert "1 device so far trained \N{LEFT DOUBLE QUOTATION MARK}gait" in text
    assert "in 1 of 4 rounds" in text
    assert "round not closed yet" in text
    assert "a: 1 accepted, 0 refused, 0 missed" in text


def test_run_without_rounds_says_so(folder: RunFolder, journal: Journal) -> None:
    journal.create_run(RUN, JOB)
    journal.note(RUN, "error", "waited 60 s for 2 devices, none is online")
    page = Page.of(write_report(folder))
    assert "The journal holds no round yet." in page.text
    assert "The run stopped: waited 60 s" in page.text
    assert page.tags["svg"] == 0


def test_journal_without_a_run_says_so(folder: RunFolder, journal: Journal) -> None:
    assert "The journal of this folder holds no run yet." in Page.of(write_report(folder)).text


def test_round_without_updates_leaves_its_charts_out(folder: RunFolder, journal: Journal) -> None:
    journal.create_run(RUN, JOB)
    journal.open_round(RUN, 1, "base", ["a"], b"no plan")
    journal.freeze_round(RUN, 1)
    journal.close_round(RUN, 1, "model", "checkpoint", {})
    text = Page.of(write_report(folder)).text
    assert "there is no accuracy to show" in text
    assert "there are no bytes to show" in text
    assert "a: 0 accepted, 0 refused, 1 missed" in text


@pytest.mark.parametrize("content", [b"", b"gsb\x01\x05{}", b"not a bundle at all"])
def test_damaged_bundle_costs_the_layers_only(folder: RunFolder, journal: Journal, content: bytes) -> None:
    journal.create_run(RUN, "{}")
    train(journal, 1, ["a"], ["a"])
    folder.bundle.write_bytes(content)
    folder.summary.write_text("[1]")
    assert "Accuracy, round by round" in Page.of(write_report(folder)).text


def test_long_run_of_many_devices_stays_a_small_file(folder: RunFolder, journal: Journal) -> None:
    write_bundle(folder)
    journal.create_run(RUN, JOB)
    names = [f"device-{number:03}" for number in range(300)]
    for server_round in range(1, 151):
        senders = names[server_round % 7 :: 150]
        train(journal, server_round, names, senders, 1 - 1 / server_round)
    page = Page.of(write_report(folder))
    assert folder.report.stat().st_size < 300_000
    assert "These 40 have the most refused and missed rounds; 260 more are not shown." in page.text
    assert "A column every 2 rounds." in page.text
