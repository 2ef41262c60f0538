"""Cards of the weights of posteriors, and reading of a flow for an experiment."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeVar

import torch
from pydantic import field_validator, model_validator

from rephase.config.inference import FlowLearning, SimulatorConfig
from rephase.config.sections import Section
from rephase.errors import ConfigError, WeightsError, nearest_name
from rephase.inference.patterns import Simulator
from rephase.learning.cards import Card, training_command, training_facts
from rephase.learning.models import Model
from rephase.learning.weights import Kind, load_weights
from rephase.runs import Run


class PosteriorCard(Card):
    """Card of the weights of a flow; each laboratory derives its own card, which names its simulators.

    Parameters
    ----------
    experiment
        Kind of the simulator: a key of the laboratory's section of the configuration.
    data
        Settings of the simulator that the flow was trained with: unknowns, bounds, exposures.
    """

    laboratory: ClassVar[str]
    sections: ClassVar[type[Section]]
    simulators: ClassVar[Mapping[str, Callable[[Any], Simulator]]]

    experiment: str

    @field_validator("experiment")
    @classmethod
    def _is_known(cls, experiment: str) -> str:
        if experiment not in cls.simulators:
            raise ValueError(f"experiment = {experiment!r}: {nearest_name(experiment, cls.simulators)}")
        return experiment

    @model_validator(mode="after")
    def _of_its_experiment(self) -> Self:
        expected = type(getattr(self.sections(), self.experiment).data)
        if type(self.data) is not expected:
            raise ValueError(
                f"data is a {type(self.data).__name__}: expected a {expected.__name__} for {self.experiment}"
            )
        return self

    @property
    def name(self) -> str:
        """Name of the model and its experiment."""
        return f"{self.model}_{self.experiment}"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a pattern."""
        return self._simulator.pattern_shape

    @property
    def built_with(self) -> dict[str, Any]:
        """Arguments of the model: the simulator."""
        return {"simulator": self._simulator}

    @property
    def _simulator(self) -> Simulator:
        return self.simulators[self.experiment](self.data)


PosteriorCardType = TypeVar("PosteriorCardType", bound=PosteriorCard)


def posterior_card(
    run: Run,
    card: type[PosteriorCardType],
    experiment: str,
    name: str,
    *,
    notebook: str,
    judged_by: set[str],
    figures: dict[str, dict[str, float]],
) -> PosteriorCardType:
    """Make the card of a trained flow; the keys `judged_by` of its section define how `figures` were scored."""
    section = getattr(getattr(run.config, card.laboratory), experiment)
    shown = section.model_dump(mode="json", include={"data", "models", "training", *judged_by})
    shown["models"] = {name: shown["models"][name]}
    return card(
        **training_facts(run, section, name, figures),
        experiment=experiment,
        data=section.data,
        command=training_command(notebook, {"seed": run.config.seed, f"{card.laboratory}.{experiment}": shown}),
    )


def load_flow(
    section: FlowLearning, kind: Kind[Model, PosteriorCardType], experiment: str, *, device: torch.device | str = "cpu"
) -> Model:
    """Read the flow from the weights that the section of an experiment names.

    Raises
    ------
    WeightsError
        As `load_weights`; also for weights of another kind of experiment.
    ConfigError
        The data settings of the section differ from those that the flow was trained with.
    """
    source, where = str(section.inference.weights), f"{kind.card.laboratory}.{experiment}"
    flow, card = load_weights(source, kind, device=device)
    if card.experiment != experiment:
        raise WeightsError(
            f"{where}.inference.weights = {source}: a flow of {card.experiment}; name weights for {experiment}, or "
            "null for the flow of this run"
        )
    own, trained = (data.model_dump(exclude=set(SimulatorConfig.model_fields)) for data in (section.data, card.data))
    for name, value in own.items():
        if value != trained[name]:
            raise ConfigError(
                f"{where}.data.{name} = {value}: the weights {source} were trained with {trained[name]}; use that "
                f"value, or set {where}.inference.weights to null to train a flow of {where}.models"
            )
    return flow
