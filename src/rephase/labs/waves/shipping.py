"""Weights of the flows of images that a run has trained, with their cards."""

from collections.abc import Iterator

from rephase.inference.cards import posterior_card
from rephase.labs.waves.cards import ImageFlowCard
from rephase.labs.waves.data.simulators import WAVE_SIMULATORS
from rephase.labs.waves.models import IMAGE_POSTERIOR_MODELS
from rephase.labs.waves.models.flows import ImageFlow
from rephase.labs.waves.steps import build_patterns, config_of, training_folder
from rephase.learning.cards import training_figures
from rephase.learning.training import trained_model
from rephase.learning.weights import Weights
from rephase.runs import Run

_NOTEBOOKS = {"ptychography": "33", "holography": "34"}  # the notebook that trains the flow of each kind


def trained_weights(run: Run) -> Iterator[Weights[ImageFlow, ImageFlowCard]]:
    """Yield the models that a run has trained, at their best epochs, each with its card."""
    for kind in WAVE_SIMULATORS:
        section, folder = config_of(run, kind), training_folder(run, kind)
        if (folder / "best.ckpt").is_file():
            data = build_patterns(run, kind)
            model = trained_model(IMAGE_POSTERIOR_MODELS, "image_flow", data, section, folder, device=run.device)
            figures = training_figures(run, "flow", f"wave_results_{kind}")
            yield Weights(
                model,
                posterior_card(
                    run,
                    ImageFlowCard,
                    kind,
                    "image_flow",
                    notebook=_NOTEBOOKS[kind],
                    judged_by={"n_judged", "n_draws"},
                    figures=figures,
                ),
            )
