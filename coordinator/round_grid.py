"""A Flower Grid as a run's rounds need it: devices have names, and a round may be asked of some of them alone."""

from abc import abstractmethod

from flwr.serverapp import Grid


class RoundGrid(Grid):
    """Its replies to `train` carry update objects, as `SieveStrategy.aggregate_train` takes them."""

    @abstractmethod
    def devices(self) -> list[str]:
        """Names of the devices that can be given work."""

    @abstractmethod
    def restrict(self, cohort: list[str] | None) -> None:
        """Show strategies only these devices: a resumed round must ask the very devices it asked before."""
