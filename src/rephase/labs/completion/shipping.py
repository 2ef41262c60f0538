"""Weights of the amplitude models that a run has trained, with their cards."""

from collections.abc import Iterator

import numpy as np
import torch

from rephase.labs.completion.cards import AmplitudeCard, Ranges, RelativeErrors
from rephase.labs.completion.data import MonoclinicData, beta_of
from rephase.labs.completion.models import AMPLITUDE_MODELS
from rephase.labs.completion.models.amplitudes import AmplitudeModel
from rephase.labs.completion.scores import AmplitudePredictor, complete_batch
from rephase.labs.completion.steps import build_data
from rephase.learning.cards import training_command, training_facts, training_figures
from rephase.learning.training import trained_model
from rephase.learning.weights import Weights
from rephase.runs import Run

_N_SHELLS = 12


_FEWEST = 20  # reflections of one kind in a shell that determine its error


def trained_weights(run: Run) -> Iterator[Weights[AmplitudeModel, AmplitudeCard]]:
    """Yield the models that a run has trained, with the weights of their best epochs and their cards."""
    config, places = run.config.completion, run.checkpoints("completion")
    names = [name for name in config.models if (places / name / "best.ckpt").is_file()]
    if not names:
        return
    data = build_data(run).random
    for name in names:
        model = trained_model(AMPLITUDE_MODELS, name, data, config, places / name, device=run.device)
        yield Weights(model, amplitude_card(run, data, name, model))


def amplitude_card(run: Run, data: MonoclinicData, name: str, model: AmplitudeModel) -> AmplitudeCard:
    """Describe a trained amplitude model of a run, and measure its errors."""
    shown = run.config.model_dump(mode="json", include={"seed": True, "completion": {"data", "models", "training"}})
    shown["completion"]["data"]["folder"] = None
    shown["completion"]["models"] = {name: shown["completion"]["models"][name]}
    return AmplitudeCard(
        **training_facts(run, run.config.completion, name, training_figures(run, name, "completion_results")),
        data=run.config.completion.data.model_copy(update={"folder": None}),
        trained_on=ranges(data),
        relative_error=relative_errors(model, data, device=next(model.parameters()).device),
        command=training_command("12,13", shown),
    )


def ranges(data: MonoclinicData) -> Ranges:
    """Ranges of the cells and volumes of the training crystals."""
    lattice = data.lattice[data.splits["train"]]
    values = dict(zip("abc", lattice.norm(dim=1).T)) | {"beta": beta_of(lattice), "volume": torch.linalg.det(lattice)}
    return Ranges(**{name: (float(value.min()), float(value.max())) for name, value in values.items()})


def relative_errors(
    predictor: AmplitudePredictor,
    data: MonoclinicData,
    *,
    split: str = "validation",
    device: torch.device | str = "cpu",
) -> RelativeErrors:
    """Measure the relative error of completed amplitudes: the root of sum (|F_out| - |F|)^2 / sum |F_out|^2.

    The sums are over the missing reflections, separately for acentric and centric ones, in shells of equal width in
    1/d^2 from 0 to the resolution limit; a shell with too few reflections takes the error over all of them.
    """
    edges, hkl = np.linspace(0, data.config.d_min**-2, _N_SHELLS + 1), data.grid.hkl.reshape(-1, 3)
    centric = torch.as_tensor(np.stack([symmetry.is_centric(hkl) for symmetry in data.symmetries]))
    centric = centric.reshape(-1, *data.grid.shape)
    sums = np.zeros((3, 2, _N_SHELLS))  # reflections, error, power; acentric and centric
    for batch in data.batches(split):
        c = complete_batch(predictor, batch, device)
        shell = np.digitize(4 * batch.s_squared[c.missing].numpy(), edges[1:-1])
        place = centric[batch.group][c.missing].numpy() * _N_SHELLS + shell
        pred, true = c.pred[c.missing].numpy(), c.true[c.missing].numpy()
        for row, term in enumerate((np.ones(len(pred)), (pred - true) ** 2, pred**2)):
            sums[row] += np.bincount(place, term, 2 * _N_SHELLS).reshape(2, _N_SHELLS)
    n, error, power = sums
    relative = np.where(n < _FEWEST, error.sum() / power.sum(), error / np.where(power > 0, power, 1))
    return RelativeErrors(acentric=tuple(np.sqrt(relative[0])), centric=tuple(np.sqrt(relative[1])))
