from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edge_client.data import FolderSource
from edge_client.inline_trainer import InlineTrainer
from edge_client.model_file import digest_of
from edge_client.orders import (
    Answer,
    Failed,
    LocalRules,
    NeedModel,
    Order,
    PrivacyTerms,
    Scored,
    Trained,
)
from edge_client.pending import PendingStore
from edge_client.privacy_account import PrivacyAccount, read_account
from shared.compression.plan import Plan
from shared.compression.registry import codec_by_name
from shared.delta_chain import Link, pack_chain
from shared.messages import DeclineReason
from shared.update import UpdateObject, base_tag

if TYPE_CHECKING:
    from tests.edge_client.conftest import Lab


@pytest.fixture
def trainer(lab: "Lab") -> InlineTrainer:
    return InlineTrainer(lab.state, FolderSource(lab.data), lambda: 0.0)


def carry_out(trainer: InlineTrainer, order: Order) -> Answer:
    trainer.submit(order)
    (answer,) = trainer.poll()
    assert (answer.run, answer.server_round) == (order.run, order.server_round)
    return answer


def failure(trainer: InlineTrainer, order: Order) -> Failed:
    answer = carry_out(trainer, order)
    assert isinstance(answer, Failed)
    return answer


def test_training_commits_what_it_answers(lab: "Lab", trainer: InlineTrainer) -> None:
    answer = carry_out(trainer, lab.train_order())
    update = PendingStore(lab.run).unsettled()
    assert update is not None
    assert answer == Trained(run="r", server_round=0, object_bytes=len(update.object), steps=6, model=lab.target)
    assert UpdateObject.unpack(update.object).header.steps == 6


def test_kept_bundle_that_no_longer_fits_is_refused_before_it_is_loaded(
    lab: "Lab", trainer: InlineTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_client.inline_trainer.available_bytes", lambda: 999)
    monkeypatch.setattr("edge_client.inline_trainer.rss_bytes", lambda: -1000)
    answer = failure(trainer, lab.train_order())
    assert answer.code == "bundle_refused"
    assert "needs about 1000 bytes of memory, 999 are available" in answer.text


def test_evaluation_scores_the_test_windows(lab: "Lab", trainer: InlineTrainer) -> None:
    answer = carry_out(trainer, lab.evaluate_order())
    assert isinstance(answer, Scored)
    assert answer.model == lab.target
    assert 0 <= answer.correct <= answer.examples
    assert not (lab.run / "pending.bin").exists()


def test_same_order_on_two_devices_of_one_name_gives_the_same_bytes(lab: "Lab", trainer: InlineTrainer) -> None:
    carry_out(trainer, lab.train_order())
    first = (lab.run / "pending.bin").read_bytes()
    (lab.run / "pending.bin").unlink()
    carry_out(InlineTrainer(lab.state, FolderSource(lab.data), lambda: 0.0), lab.train_order())
    assert (lab.run / "pending.bin").read_bytes() == first


def test_order_that_was_carried_out_is_answered_from_disk(lab: "Lab", trainer: InlineTrainer) -> None:
    answer, before = carry_out(trainer, lab.train_order()), (lab.run / "pending.bin").stat()
    for file in lab.data.iterdir():
        file.unlink()
    again = InlineTrainer(lab.state, FolderSource(lab.data), lambda: 0.0)
    assert carry_out(again, lab.train_order()) == answer
    assert (lab.run / "pending.bin").stat() == before


def test_newer_round_waits_for_the_verdict_on_the_last(lab: "Lab", trainer: InlineTrainer) -> None:
    carry_out(trainer, lab.train_order(server_round=1))
    refused = failure(trainer, lab.train_order(server_round=2))
    assert refused.code == "not_eligible"
    assert "round 1 waits for its verdict" in refused.text
    PendingStore(lab.run).settle(1, accepted=True)
    assert isinstance(carry_out(trainer, lab.train_order(server_round=2)), Trained)


def test_damaged_pending_update_is_trained_anew(lab: "Lab", trainer: InlineTrainer) -> None:
    carry_out(trainer, lab.train_order())
    whole = (lab.run / "pending.bin").read_bytes()
    (lab.run / "pending.bin").write_bytes(whole[:-1])
    assert isinstance(carry_out(trainer, lab.train_order()), Trained)
    assert (lab.run / "pending.bin").read_bytes() == whole


def test_deadline_stops_early_and_is_told(lab: "Lab") -> None:
    ticks = count()
    trainer = InlineTrainer(lab.state, FolderSource(lab.data), lambda: float(next(ticks)))
    answer = carry_out(trainer, lab.train_order(seconds=3.5))
    assert isinstance(answer, Trained)
    assert (answer.steps, answer.ended_by) == (3, "time")
    update = PendingStore(lab.run).unsettled()
    assert update is not None
    assert UpdateObject.unpack(update.object).header.steps == 3


def test_deadline_before_the_first_step_is_a_failure(lab: "Lab") -> None:
    ticks = count()
    trainer = InlineTrainer(lab.state, FolderSource(lab.data), lambda: float(next(ticks)))
    assert failure(trainer, lab.train_order(seconds=0.5)).code == "trainer_failed"
    assert not (lab.run / "pending.bin").exists()


def test_model_is_needed_where_neither_it_nor_its_base_is_kept(lab: "Lab", trainer: InlineTrainer) -> None:
    needed = NeedModel(run="r", server_round=0)
    assert carry_out(trainer, lab.train_order(model=None)) == needed
    assert carry_out(trainer, lab.train_order(model=None, chain=str(lab.model))) == needed
    carry_out(trainer, lab.train_order())
    lagging = carry_out(trainer, lab.evaluate_order(model=None, target="0" * 64, server_round=1))
    assert lagging == NeedModel(run="r", server_round=1, held=lab.target)
    PendingStore(lab.run).settle(0, accepted=True)
    assert isinstance(carry_out(trainer, lab.train_order(server_round=1, model=None)), Trained)


def test_delta_leads_from_round_to_round(lab: "Lab", trainer: InlineTrainer, tmp_path: Path) -> None:
    carry_out(trainer, lab.evaluate_order())
    update = np.full(lab.task.layout.size, 0.5, np.float32)
    encoded = codec_by_name("dense").encode(update, lab.task.layout, Plan(budget_bytes=1 << 20))
    (tmp_path / "chain").write_bytes(pack_chain([Link(base_tag(lab.target), encoded.frame)]))
    target = lab.task.weights.copy()
    encoded.delivered.add_to(target)
    order = lab.evaluate_order(model=None, chain=str(tmp_path / "chain"), target=digest_of(target), server_round=1)
    assert isinstance(carry_out(trainer, order), Scored)
    assert (lab.run / "model.bin").read_bytes() == target.tobytes()


def test_model_that_is_not_the_announced_one_is_refused(lab: "Lab", trainer: InlineTrainer) -> None:
    assert failure(trainer, lab.train_order(target="f" * 64)).code == "wrong_message"


def test_plan_of_another_layout_is_refused(lab: "Lab", trainer: InlineTrainer, tmp_path: Path) -> None:
    (tmp_path / "plan").write_bytes(b"\xff" * 9)
    assert failure(trainer, lab.train_order(plan=str(tmp_path / "plan"))).code == "wrong_message"


def test_unknown_codec_is_refused(lab: "Lab", trainer: InlineTrainer) -> None:
    order = lab.train_order()
    answer = failure(trainer, order.model_copy(update={"work": order.work.model_copy(update={"codec": "zip"})}))
    assert answer.code == "wrong_message"
    assert "'zip'" in answer.text


def test_bad_recording_is_named_and_the_next_order_can_succeed(lab: "Lab", trainer: InlineTrainer) -> None:
    np.savez(lab.data / "bad.npz", x=np.full((80, 2), np.nan, np.float32), y=np.int64(0))
    answer = failure(trainer, lab.train_order())
    assert answer.code == "data_error"
    assert answer.text.startswith("bad.npz: nan at row 0")
    (lab.data / "bad.npz").unlink()
    assert isinstance(carry_out(trainer, lab.train_order()), Trained)


def test_recordings_too_short_to_test_on_are_a_data_error(lab: "Lab", trainer: InlineTrainer) -> None:
    for file in lab.data.iterdir():
        np.savez(file, x=np.zeros((12, 2), np.float32), y=np.int64(0))
    assert failure(trainer, lab.evaluate_order()).code == "data_error"


@pytest.mark.parametrize("content", [b"", b"altered"])
def test_altered_bundle_is_refused(lab: "Lab", trainer: InlineTrainer, content: bytes) -> None:
    Path(lab.train_order().bundle).write_bytes(content)
    answer = failure(trainer, lab.train_order())
    assert answer.code == "bundle_refused"
    assert "altered: fetch it again" in answer.text


def test_bundle_that_made_room_for_others_is_asked_for_again(lab: "Lab", trainer: InlineTrainer) -> None:
    Path(lab.train_order().bundle).unlink()
    answer = failure(trainer, lab.train_order())
    assert answer.code == "bundle_refused"
    assert "gone: fetch it again" in answer.text


def test_data_and_graphs_are_loaded_once(lab: "Lab", trainer: InlineTrainer) -> None:
    carry_out(trainer, lab.evaluate_order())
    for file in lab.data.iterdir():
        file.unlink()
    assert isinstance(carry_out(trainer, lab.evaluate_order()), Scored)
    assert isinstance(carry_out(trainer, lab.train_order()), Trained)
    assert trainer.peak_rss_bytes() == 0


TERMS = PrivacyTerms(clip_norm=0.5, noise_multiplier=20.0, delta=1e-5)


def private(largest_epsilon: float | None = None) -> LocalRules:
    return LocalRules(report_loss=False, privacy=TERMS.model_copy(update={"largest_epsilon": largest_epsilon}))


def test_noised_round_is_committed_as_such_and_accounted_for_over_restarts(lab: "Lab") -> None:
    epsilons = []
    for server_round in range(3):  # a new trainer each: the account lives on disk
        trainer = InlineTrainer(lab.state, FolderSource(lab.data), lambda: 0.0, lambda: np.random.default_rng(1))
        answer = carry_out(trainer, lab.train_order(server_round, rules=private()))
        assert isinstance(answer, Trained)
        assert answer.privacy is not None
        assert answer.privacy.rounds == server_round + 1
        epsilons.append(answer.privacy.epsilon)
        update = PendingStore(lab.run).unsettled()
        assert update is not None
        assert update.noised
        PendingStore(lab.run).settle(server_round, accepted=True)
    account = read_account(lab.state)
    assert account.rounds == 3
    expected = [PrivacyAccount(rho, 0).epsilon(TERMS.delta) for rho in (0.005, 0.01, 0.015)]
    assert epsilons == pytest.approx(expected)


def test_privacy_that_is_used_up_declines_before_any_training(lab: "Lab", trainer: InlineTrainer) -> None:
    declined = failure(trainer, lab.train_order(rules=private(largest_epsilon=0.1)))
    assert (declined.code, declined.reason) == ("not_eligible", DeclineReason.PRIVACY)
    assert not (lab.run / "pending.bin").exists()
    assert read_account(lab.state).rounds == 0


def test_cost_is_on_disk_before_the_update_is(lab: "Lab", monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise OSError("no power")

    monkeypatch.setattr(PendingStore, "commit", crash)
    trainer = InlineTrainer(lab.state, FolderSource(lab.data), lambda: 0.0)
    assert failure(trainer, lab.train_order(rules=private())).code == "trainer_failed"
    assert read_account(lab.state).rounds == 1


def test_noised_update_that_is_asked_for_again_is_the_same_and_costs_nothing(
    lab: "Lab", trainer: InlineTrainer
) -> None:
    carry_out(trainer, lab.train_order(rules=private()))
    first = (lab.run / "pending.bin").read_bytes()
    carry_out(trainer, lab.train_order(rules=private()))
    assert (lab.run / "pending.bin").read_bytes() == first
    assert read_account(lab.state).rounds == 1


def test_too_many_passes_over_the_data_are_declined(lab: "Lab", trainer: InlineTrainer) -> None:
    declined = failure(trainer, lab.train_order(rules=LocalRules(most_epochs=0.01)))
    assert (declined.code, declined.reason) == ("not_eligible", DeclineReason.EPOCHS)


def test_board_that_gets_hot_ends_training_early_and_says_how_many_steps_count(lab: "Lab") -> None:
    seconds, heat = count(), iter([60.0, 70.0, 74.0, 76.0])
    trainer = InlineTrainer(lab.state, FolderSource(lab.data), lambda: float(next(seconds)), celsius=lambda: next(heat))
    answer = carry_out(trainer, lab.train_order(rules=LocalRules(hottest_celsius=75.0)))
    assert isinstance(answer, Trained)
    assert (answer.steps, answer.ended_by) == (3, "heat")
    update = PendingStore(lab.run).unsettled()
    assert update is not None
    assert UpdateObject.unpack(update.object).header.steps == 3


def test_board_that_is_hot_before_the_first_step_declines(lab: "Lab") -> None:
    trainer = InlineTrainer(lab.state, FolderSource(lab.data), lambda: 0.0, celsius=lambda: 90.0)
    declined = failure(trainer, lab.train_order(rules=LocalRules(hottest_celsius=75.0)))
    assert (declined.code, declined.reason) == ("not_eligible", DeclineReason.CONDITION)
    assert "above 75 °C before the first step" in declined.text
