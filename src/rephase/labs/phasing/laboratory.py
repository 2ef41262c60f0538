"""The laboratory of the learned solver as an entry of the table of laboratories."""

from rephase.config import Config
from rephase.labs.laboratory import Laboratory
from rephase.labs.phasing.models import PHASING_MODELS
from rephase.labs.phasing.shipping import trained_weights
from rephase.labs.phasing.steps import check_crystals, trainings
from rephase.learning.models import check_models


def check(config: Config) -> None:
    """Raise an error if the crystals, a model or its training is invalid."""
    check_models(PHASING_MODELS, config.phasing, "phasing")
    check_crystals(config)


LABORATORY = Laboratory(
    package="rephase.labs.phasing", notebooks=(), check=check, weights=trained_weights, trainings=trainings
)
