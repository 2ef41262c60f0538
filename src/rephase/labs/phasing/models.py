"""Networks that find phases, by name, and their training modules."""

from typing import TYPE_CHECKING

from rephase.config.phasing import PhasingConfig, PhasingTraining
from rephase.errors import ConfigError
from rephase.learning.weights import Weights, load_weights
from rephase.solvers.learned.cards import PHASES, PhasingCard
from rephase.solvers.learned.network import RecurrentNetwork

if TYPE_CHECKING:
    from rephase.labs.phasing.training import RecurrentModule


class TrainedNetwork(RecurrentNetwork):
    """The network with the module that trains it."""

    def training_module(self, options: PhasingTraining, seed: int) -> "RecurrentModule":
        """Make the module that trains the network over several steps at once."""
        from rephase.labs.phasing.training import RecurrentModule  # only training needs Lightning

        return RecurrentModule(self, options, seed)


START = "start_sha256"  # key of a checkpoint: checksum of the weights from which the training started, or ""

PHASING_MODELS: dict[str, type[TrainedNetwork]] = {"recurrent": TrainedNetwork}


def starting_weights(start: str, network: RecurrentNetwork) -> Weights[RecurrentNetwork, PhasingCard]:
    """Load the weights from which the training of a network starts: shipped ones by name, or a file.

    Raises
    ------
    ConfigError
        They are weights of a network with other options.
    WeightsError
        There are no such weights, or they are damaged.
    """
    weights = load_weights(start, PHASES)
    own, given = ({key: value.shape for key, value in each.state_dict().items()} for each in (network, weights.model))
    if own != given:
        raise ConfigError(
            f"phasing training.start = {start!r}: weights of a network with the options {weights.card.options}; give "
            "the model the same options, or leave start out"
        )
    return weights


def check_starts(config: PhasingConfig) -> None:
    """Raise as `starting_weights` if a training of the section cannot start from its weights."""
    for name, start in config.starts.items():
        starting_weights(start, PHASING_MODELS[name](**config.models[name].options))
