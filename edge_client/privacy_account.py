"""What a device's noised updates have cost of its data's privacy, kept on disk over runs, restarts and jobs.

The Gaussian mechanism has Rényi divergence alpha s^2 / (2 sigma^2) of every order alpha, for L2 sensitivity s, and the
divergences of releases add up: I. Mironov, Rényi Differential Privacy, CSF 2017, corollary 3 and proposition 1. With
rho their sum over alpha, proposition 3 there gives (alpha rho + log(1/delta) / (alpha - 1), delta)-differential privacy
for every alpha; the best one gives epsilon = rho + 2 sqrt(rho log(1/delta)).

Two data sets are neighbours here if they are any two that the device might hold: all its data is protected at once.
Two updates clipped to norm c then differ by up to 2c, and a round with noise of z c costs rho = 2 / z^2.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, TypeAdapter

from edge_client.orders import PrivacySpent, PrivacyTerms
from shared.durable_file import write_durably
from shared.errors import Declined, RemoteError
from shared.messages import Count, DeclineReason, Message, dump, parse

ACCOUNT_FILE = "privacy.json"
SENSITIVITY_IN_CLIP_NORMS = 2.0


@dataclass(frozen=True, slots=True)
class PrivacyAccount:
    """The `rho` of all rounds so far, and how many they were."""

    rho: float = 0.0
    rounds: int = 0

    def after(self, terms: PrivacyTerms) -> Self:
        """The account once one more update was noised by `terms`."""
        cost = 0.5 * (SENSITIVITY_IN_CLIP_NORMS / terms.noise_multiplier) ** 2
        return type(self)(self.rho + cost, self.rounds + 1)

    def epsilon(self, delta: float) -> float:
        """The epsilon of all rounds together at `delta`, 0 < delta < 1."""
        return self.rho + 2 * math.sqrt(self.rho * math.log(1 / delta))

    def spent(self, terms: PrivacyTerms) -> PrivacySpent:
        """What is spent, at the delta of `terms`."""
        return PrivacySpent(rounds=self.rounds, epsilon=self.epsilon(terms.delta), delta=terms.delta)

    def check(self, terms: PrivacyTerms) -> None:
        """Raise `Declined` where one more round would be more than `terms` allow in all."""
        epsilon = self.after(terms).epsilon(terms.delta)
        if terms.largest_epsilon is not None and epsilon > terms.largest_epsilon:
            raise Declined(
                f"epsilon after this round would be {epsilon:.3g}, above privacy.largest_epsilon = "
                f"{terms.largest_epsilon:g}",
                DeclineReason.PRIVACY,
            )


class _Kept(Message):
    rho: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    rounds: Count


KEPT = TypeAdapter(_Kept)


def read_account(state_dir: Path) -> PrivacyAccount:
    """The account in a state directory, a new one where there is none; raises `Declined` where it is damaged."""
    file = state_dir / ACCOUNT_FILE
    try:
        kept = parse(KEPT, file.read_bytes())
    except FileNotFoundError:
        return PrivacyAccount()
    except RemoteError as error:
        raise Declined(
            f"the account of privacy {file.name} is damaged ({error}): restore it, or delete it to begin at 0",
            DeclineReason.PRIVACY,
        ) from None
    return PrivacyAccount(kept.rho, kept.rounds)


def write_account(state_dir: Path, account: PrivacyAccount) -> None:
    """Keep the account, on disk once this returns; raises `OSError`."""
    write_durably(state_dir / ACCOUNT_FILE, dump(_Kept(rho=account.rho, rounds=account.rounds)))
