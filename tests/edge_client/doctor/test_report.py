import json

from edge_client.doctor.finding import Finding, Mark
from edge_client.doctor.report import as_json, is_well, line, summary
from shared.errors import DataError

FINDINGS = [
    Finding.ok("clock", "says noon"),
    Finding.warn("swap", "on a card", "use zram"),
    Finding.skip("MQTT", "not examined"),
    Finding.fail("broker", "nobody is there", "start it"),
]


def test_line_has_mark_check_text_and_remedy() -> None:
    assert line(FINDINGS[1], colour=False) == "warn  swap           on a card: use zram"
    assert line(FINDINGS[0], colour=False) == "ok    clock          says noon"


def test_colour_is_around_the_mark_alone() -> None:
    assert line(FINDINGS[3], colour=True) == "\x1b[31mfail\x1b[0m  broker         nobody is there: start it"


def test_words_from_the_network_do_not_steer_the_terminal() -> None:
    told = line(Finding.fail("MQTT", "evil\x1b[2J\nok    MQTT", "look"), colour=False)
    assert "\x1b" not in told
    assert "\n" not in told


def test_only_a_failure_makes_the_whole_fail() -> None:
    assert not is_well(FINDINGS)
    assert is_well(FINDINGS[:3])
    assert summary(FINDINGS) == "4 findings: 1 ok, 1 warn, 1 fail, 1 skip"


def test_json_has_every_finding() -> None:
    told = json.loads(as_json(FINDINGS))
    assert told["ok"] is False
    assert told["findings"][1] == {"check": "swap", "mark": "warn", "text": "on a card", "remedy": "use zram"}


def test_error_gives_its_remedy_from_behind_the_last_colon() -> None:
    found = Finding.of_error("data", DataError("/data: 3.npz: not readable: write it anew"))
    assert found == Finding("data", Mark.FAIL, "/data: 3.npz: not readable", "write it anew")
    assert Finding.of_error("data", "no colon").text == "no colon"
