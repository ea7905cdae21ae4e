from pathlib import Path

import pytest

from edge_client.policy import Policy, load_policy
from shared.errors import SettingsError
from shared.messages import DeclineReason, LocalWork

WORK = LocalWork(steps=20, batch_size=8, learning_rate=0.1, momentum=0.9, codec="partition", seed=1)
SIGNER, STRANGER = "ab" * 32, "cd" * 32
PRIVACY = {"clip_norm": 1.0, "noise_multiplier": 2.0}


def policy(**fields: object) -> Policy:
    return Policy.model_validate(fields)


def test_without_a_file_all_that_is_asked_is_allowed() -> None:
    allowed = load_policy(None)
    assert allowed.objection("watch-0a1b2c", SIGNER, WORK) is None
    assert allowed.objection("watch-0a1b2c", SIGNER, None) is None
    assert allowed.rules.report_loss
    assert not allowed.rules.report_label_counts


@pytest.mark.parametrize(
    ("run", "allowed"),
    [
        ("watch-0a1b2c", True),
        ("watch-left-0a1b2c", False),
        ("lab-7-0a1b2c", True),
        ("lab", False),
        ("watch", True),
        ("other-watch-0a1b2c", False),
    ],
)
def test_patterns_are_of_the_jobs_name_without_what_makes_the_run_unique(run: str, allowed: bool) -> None:
    objection = policy(allowed_jobs=["watch", "lab-?"]).objection(run, SIGNER, WORK)
    assert (objection is None) == allowed
    if objection:
        assert objection.reason is DeclineReason.JOB
        assert "watch, lab-?" in objection.text


def test_no_pattern_allows_no_job() -> None:
    assert policy(allowed_jobs=[]).objection("a", SIGNER, WORK) is not None


def test_only_the_named_signers_may_sign() -> None:
    strict = policy(allowed_signers=[SIGNER])
    assert strict.objection("a", SIGNER, WORK) is None
    objection = strict.objection("a", STRANGER, WORK)
    assert objection is not None
    assert objection.reason is DeclineReason.SIGNER
    assert "cdcdcdcd" in objection.text


@pytest.mark.parametrize(("most", "allowed"), [(19, False), (20, True)])
def test_steps_are_bounded(most: int, allowed: bool) -> None:
    objection = policy(most_steps=most).objection("a", SIGNER, WORK)
    assert (objection is None) == allowed
    if objection:
        assert (objection.reason, objection.text) == (DeclineReason.STEPS, "20 steps are above most_steps = 19")


@pytest.mark.parametrize("kept", ["loss", "accuracy"])
def test_evaluation_is_declined_where_its_figures_stay(kept: str) -> None:
    closed = policy(report={kept: False})
    assert closed.objection("a", SIGNER, WORK) is None
    objection = closed.objection("a", SIGNER, None)
    assert objection is not None
    assert objection.reason is DeclineReason.REPORT


def test_noise_keeps_all_exact_figures_on_the_device() -> None:
    rules = policy(privacy=PRIVACY).rules
    assert rules.privacy is not None
    assert rules.privacy.sigma == 2.0
    told = (rules.report_loss, rules.report_accuracy, rules.report_examples, rules.report_label_counts)
    assert not any(told)


@pytest.mark.parametrize("figure", ["loss", "accuracy", "examples", "label_counts"])
def test_exact_figures_beside_noise_are_a_contradiction(tmp_path: Path, figure: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(f"[privacy]\nclip_norm = 1.0\nnoise_multiplier = 1.0\n[report]\n{figure} = true\n")
    with pytest.raises(SettingsError, match=rf"policy\.toml: report\.{figure} tells of the data without noise"):
        load_policy(file)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("allowed_job = ['a']", "did you mean allowed_jobs"),
        ("quiet_hours = ['22-6']", "such as 22:00-06:30"),
        ("[privacy]\nclip_norm = 1.0", "privacy.noise_multiplier is missing: set it in the file"),
        ("[privacy]\nclip_norm = 1.0\nnoise_multiplier = 0", "greater than 0"),
        ("allowed_signers = ['me']", "allowed_signers"),
        ("most_steps = 0", "most_steps"),
        ("upload_bytes_a_day = -5", "upload_bytes_a_day"),
    ],
)
def test_wrong_policy_file_is_one_line_that_names_file_and_key(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_policy(file)
    assert str(file) in str(caught.value)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_environment_does_not_loosen_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("most_steps = 10")
    monkeypatch.setenv("MOST_STEPS", "1000")
    assert load_policy(file).most_steps == 10


def test_quiet_hours_are_those_of_the_local_day() -> None:
    nights = policy(quiet_hours=["22:00-06:00", "12:00-13:00"])
    assert str(nights.is_quiet(23 * 60)) == "22:00-06:00"
    assert str(nights.is_quiet(12 * 60)) == "12:00-13:00"
    assert nights.is_quiet(15 * 60) is None
