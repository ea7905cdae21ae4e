from pathlib import Path

import pytest

from coordinator.demo import WATCH_JOB, demo_job
from coordinator.job import Job, Sieve, Work, load_job
from shared.errors import SettingsError


def test_shipped_job_loads() -> None:
    assert load_job(WATCH_JOB).name == "watch"


def test_options_of_the_demo_override_its_job() -> None:
    job = demo_job(rounds=3, seed=9)
    assert (job.rounds, job.seed) == (3, 9)


def test_learning_rate_falls_along_half_a_cosine() -> None:
    work = Work(learning_rate=0.1, final_learning_rate=0.02)
    rates = [work.rate_at(server_round, 5) for server_round in range(1, 6)]
    assert rates == pytest.approx([0.1, 0.1 - 0.08 * 0.14645, 0.06, 0.02 + 0.08 * 0.14645, 0.02], abs=1e-5)


def test_a_rate_without_a_final_one_stays() -> None:
    assert {Work(learning_rate=0.001).rate_at(server_round, 9) for server_round in range(1, 10)} == {0.001}


def test_warm_up_rises_to_the_schedule() -> None:
    plain, warm = Work(learning_rate=0.1), Work(learning_rate=0.1, warmup_rounds=2)
    assert [warm.rate_at(r, 50) / plain.rate_at(r, 50) for r in (1, 2, 3, 4)] == pytest.approx([1 / 3, 2 / 3, 1, 1])


def test_job_of_one_round_has_its_first_rate() -> None:
    assert Work(learning_rate=0.1, final_learning_rate=0.01).rate_at(1, 1) == 0.1


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('name = "a"\ntask = "watch"\nround = 3', "did you mean rounds"),
        ('name = "A B"\ntask = "watch"', "name"),
        ('task = "watch"', "name is missing"),
        ('name = "a"\ntask = "watch"\nrounds = -1', "rounds"),
        ('name = "a"\ntask = "watch"\n[work]\nstep = 1', "did you mean steps"),
        ("name = ", "not valid TOML"),
        ('name = "a"\ntask = "watch"\n[work]\noptimizer = "lion"', "work.optimizer"),
        ('name = "a"\ntask = "watch"\n[work]\noptimizer = "adam"\nmomentum = 0.5', "adam has no momentum"),
        ('name = "a"\ntask = "watch"\n[work]\nbeta2 = 0.99', "sgd has no beta2"),
        ('name = "a"\ntask = "watch"\n[work]\nmomentum = 0\nnesterov = true', "nesterov needs a momentum"),
        ('name = "a"\ntask = "watch"\n[work]\ndecoupled_decay = true', "set that above 0"),
        ('name = "a"\ntask = "watch"\n[work]\nproximal_mu = -1', "work.proximal_mu"),
        ('name = "a"\ntask = "watch"\n[sieve]\nratio = 0.5', "sieve.ratio"),
        ('name = "a"\ntask = "watch"\n[downlink]\nratio = 9\nbudget_bytes = 90', "leave one out"),
    ],
)
def test_wrong_job_file_is_one_line_that_names_file_and_key(tmp_path: Path, text: str, named: str) -> None:
    file = tmp_path / "job.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_job(file)
    assert str(file) in str(caught.value)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("codec", "gain", "eighths"),
    [("partition", None, 12), ("stc", None, 8), ("topk", None, 8), ("stc", 1.5, 12), ("partition", 1.0, 8)],
)
def test_only_the_sieve_has_a_gain_unless_the_job_says_so(codec: str, gain: float | None, eighths: int) -> None:
    assert Sieve(codec=codec, gain=gain).gain_eighths == eighths


def test_job_with_another_optimizer_is_read_back_from_the_journal_as_it_was() -> None:
    job = Job(name="a", task="watch", work=Work(optimizer="adam", beta2=0.99, weight_decay=0.1, decoupled_decay=True))
    assert Job.model_validate_json(job.model_dump_json()) == job


@pytest.mark.parametrize(("ratio", "budget_bytes"), [(None, 300), (1000.0, 400), (1.0, 400_000), (1e6, 16)])
def test_a_budget_is_in_bytes_or_a_ratio_to_dense(ratio: float | None, budget_bytes: int) -> None:
    job = Job(name="a", task="watch", sieve=Sieve(ratio=ratio))
    assert job.sieve.budget_for(100_000) == budget_bytes
    assert Job.model_validate_json(job.model_dump_json()) == job
