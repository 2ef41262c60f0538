"""From the trainings of a run to files of weights, with cards that say how far they can be trusted."""

import json
import shlex
from pathlib import Path

import numpy as np
import torch

from rephase.completing import build_data
from rephase.completion_evaluation import AmplitudePredictor, complete_batch
from rephase.datasets.monoclinic import MonoclinicData, beta_of
from rephase.errors import TrainingError
from rephase.models import AMPLITUDE_MODELS
from rephase.runs import Run, environment
from rephase.training import trained_model
from rephase.weights import Card, Ranges, RelativeErrors, save_weights

_N_SHELLS = 12
_FEWEST = 20  # reflections of a kind in a shell that tell its error


def ship_weights(run: Run, folder: Path, *, suffix: str = "") -> list[Path]:
    """Write the weights of every model of amplitudes that a run has trained, those of its best epoch.

    Parameters
    ----------
    run
        Its data are built again where they are gone.
    folder
        For ``MODEL.safetensors`` and ``MODEL.json``.
    suffix
        Added to the names, where a folder holds several of a model.

    Raises
    ------
    TrainingError
        The run has trained none.
    """
    config, places = run.config.completion, run.checkpoints("completion")
    names = [name for name in config.models if (places / name / "best.ckpt").is_file()]
    if not names:
        raise TrainingError(f"{run.folder}: no trained model of amplitudes; run notebooks 12 and 13 of it first")
    data = build_data(run).random
    return [_ship(run, data, name, folder / f"{name}{suffix}.safetensors") for name in names]


def _ship(run: Run, data: MonoclinicData, name: str, path: Path) -> Path:
    config, folder = run.config.completion, run.checkpoints("completion") / name
    model = trained_model(AMPLITUDE_MODELS, name, data, config, folder, device=run.device)
    training = config.training_of(name)
    card = Card(
        model=name,
        options=config.models[name].options,
        loss=training.loss,
        data=run.config.monoclinic.model_copy(update={"folder": None}),
        trained_on=ranges(data),
        relative_error=relative_errors(model, data, device=next(model.parameters()).device),
        training=training.model_dump(mode="json"),
        seed=run.config.seed,
        figures=_figures(run, name),
        command=_command(run, name),
        made_with=environment(),
    )
    return save_weights(path, model, card)


def _command(run: Run, name: str) -> str:
    """What trains the model again, from any configuration."""
    shown = run.config.model_dump(mode="json", include={"seed", "monoclinic", "completion"})
    shown["monoclinic"]["folder"] = None
    shown["completion"]["models"] = {name: shown["completion"]["models"][name]}
    changes = [part for key, value in shown.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    return shlex.join(["rephase", "run", "--only", "12,13", *changes])


def ranges(data: MonoclinicData) -> Ranges:
    """Cells and volumes of the crystals that are trained on."""
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
    """How far completed amplitudes are from the truth: the root of sum (|F_out| - |F|)^2 / sum |F_out|^2.

    Over the missing reflections, acentric and centric apart, in shells of equal width in 1/d^2 from 0 to the sphere of
    the data; a shell with hardly any has that of all.
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


def _figures(run: Run, name: str) -> dict[str, dict[str, float]]:
    """Scores of a model by split and metric, as far as the run has them."""
    if not run.has_results("completion_results"):
        return {}
    table = run.results("completion_results")
    own = table[(table["model"] == name) & ~table["split"].str.contains(":")]
    return {split: dict(zip(part["metric"], part["value"].round(5))) for split, part in own.groupby("split")}
