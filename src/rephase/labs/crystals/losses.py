"""Losses of predicted structure factors: pure functions of complex grids, and the table `LOSSES`.

Every loss takes ``E_pred`` and ``E_true``, complex [batch, h, k, l], and ``scored``, True for reflections whose phase
is scored, and returns one number, the mean over the batch.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as nn_functional

from rephase.crystal.phases import friedel_mate, grid_indices, unit_phasor

_LEAST = 1e-3  # modulus of E below which the gradient of a phase grows no further


def _phasor(E: torch.Tensor) -> torch.Tensor:
    """exp(i phi) of a prediction, whose gradient is bounded.

    The gradient grows as 1/|E|, without limit. In bfloat16, the difference of two fields is now and then exactly zero;
    a single such reflection filled the optimiser's mean of the squared gradients, and the model ceased to learn.
    """
    bounded = E / E.abs().clamp_min(_LEAST)
    return bounded + (unit_phasor(E) - bounded).detach()


def _misfit(E_pred: torch.Tensor, E_true: torch.Tensor) -> torch.Tensor:
    """1 - cos Δφ of every reflection: 0 for a correct phase, 1 on average for a random one."""
    return 1 - (_phasor(E_pred) * unit_phasor(E_true).conj()).real


def _total(misfit: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    return (misfit * scored).sum((-3, -2, -1))


def phase_loss_sum(E_pred: torch.Tensor, E_true: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Sum over the reflections of 1 - cos Δφ: the loss of the reference work, which ignores the two enantiomorphs."""
    return _total(_misfit(E_pred, E_true), scored).mean()


def phase_loss_mean(E_pred: torch.Tensor, E_true: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Mean over the reflections of 1 - cos Δφ."""
    return (_total(_misfit(E_pred, E_true), scored) / scored.sum((1, 2, 3))).mean()


def phase_loss_amplitude_weighted(E_pred: torch.Tensor, E_true: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Mean of 1 - cos Δφ weighted by the true |E|, because strong reflections dominate the map."""
    weight = E_true.abs() * scored
    return (_total(_misfit(E_pred, E_true), weight) / weight.sum((1, 2, 3))).mean()


def phase_loss_aligned(E_pred: torch.Tensor, E_true: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Sum of 1 - cos Δφ, minimised over both enantiomorphs and the eight origins (0 or 1/2 along each axis).

    The amplitudes distinguish none of these: in a centred lattice of equal atoms, a shift by a centring vector only
    relabels the atoms. If only one of them counted as correct, a network would learn the mean of all. Other shifts need
    no search here, because the datasets fix the origin (no net displacement); the scoring searches all shifts.
    """
    agreement = _best_agreement(_phasor(E_pred), unit_phasor(E_true), scored)
    return (scored.sum((1, 2, 3)) - agreement).mean()


def complex_F_loss(E_pred: torch.Tensor, E_true: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Sum of |E_pred - E_true|^2, minimised as in `phase_loss_aligned`, for models that also predict amplitudes."""
    squares = (E_pred.real**2 + E_pred.imag**2 + E_true.real**2 + E_true.imag**2) * scored
    return (squares.sum((1, 2, 3)) - 2 * _best_agreement(E_pred, E_true, scored)).mean()


def _best_agreement(pred: torch.Tensor, true: torch.Tensor, scored: torch.Tensor) -> torch.Tensor:
    """Largest Re sum pred true* over both enantiomorphs and the eight origins, [batch].

    A shift by half a cell changes the sign of reflections with odd index only, so the Hadamard transform of the sums
    over the eight parity classes of hkl gives all eight origins.
    """
    hands = torch.stack([true, friedel_mate(true)], dim=1)
    product = ((pred[:, None] * hands.conj()).real * scored[:, None]).flatten(2)
    index = grid_indices(pred.shape[-3:], pred).long()
    parity = (index % 2) @ torch.tensor([4, 2, 1], device=index.device)
    classes = nn_functional.one_hot(parity, 8).to(product.dtype)
    bits = torch.tensor([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], device=index.device)
    signs = (1 - 2 * ((bits @ bits.T) % 2)).to(product.dtype)
    return (product @ classes @ signs).amax((1, 2))


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "sum": phase_loss_sum,
    "mean": phase_loss_mean,
    "amplitude_weighted": phase_loss_amplitude_weighted,
    "aligned": phase_loss_aligned,
    "complex_F": complex_F_loss,
}
