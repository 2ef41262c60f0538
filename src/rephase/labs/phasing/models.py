"""Networks that find phases, by name, and their training modules."""

from typing import TYPE_CHECKING

from rephase.config.phasing import PhasingTraining
from rephase.solvers.learned.network import RecurrentNetwork

if TYPE_CHECKING:
    from rephase.labs.phasing.training import RecurrentModule


class TrainedNetwork(RecurrentNetwork):
    """The network with the module that trains it."""

    def training_module(self, options: PhasingTraining, seed: int) -> "RecurrentModule":
        """Make the module that trains the network over several steps at once."""
        from rephase.labs.phasing.training import RecurrentModule  # only training needs Lightning

        return RecurrentModule(self, options, seed)


PHASING_MODELS: dict[str, type[TrainedNetwork]] = {"recurrent": TrainedNetwork}
