"""Weights of the flows of parameters that a run has trained, with their cards."""

from collections.abc import Iterator

from rephase.inference.cards import posterior_card
from rephase.labs.scattering.cards import ParameterCard
from rephase.labs.scattering.data.simulators import SIMULATORS
from rephase.labs.scattering.flow import build_patterns, section_of, training_folder
from rephase.labs.scattering.models import POSTERIOR_MODELS
from rephase.labs.scattering.models.flows import ParameterFlow
from rephase.learning.cards import training_figures
from rephase.learning.training import trained_model
from rephase.learning.weights import Weights
from rephase.runs import Run

_NOTEBOOKS = {"saxs": "31", "oriented": "31", "gisaxs": "32"}  # the notebook that trains the flow of each kind


def trained_weights(run: Run) -> Iterator[Weights[ParameterFlow, ParameterCard]]:
    """Yield the models that a run has trained, at their best epochs, each with its card."""
    for kind in SIMULATORS:
        section = section_of(run.config, kind)
        trained = {name: training_folder(run, kind, name) for name in section.models}
        for name, folder in trained.items():
            if (folder / "best.ckpt").is_file():
                data = build_patterns(run, kind)
                model = trained_model(POSTERIOR_MODELS, name, data, section, folder, device=run.device)
                figures = training_figures(run, name, f"posterior_results_{kind}")
                yield Weights(
                    model,
                    posterior_card(
                        run,
                        ParameterCard,
                        kind,
                        name,
                        notebook=_NOTEBOOKS[kind],
                        judged_by={"scoring"},
                        figures=figures,
                    ),
                )
