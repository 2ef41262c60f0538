"""Systematic absences: how strong are the reflections that each centring, glide plane and screw axis would forbid."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from rephase.crystal.reflections import Reflections


class Condition(NamedTuple):
    """Reflections hkl whose `zone` (rows of forms) is 0 are present only if ``form . hkl`` is a multiple of `modulus`.

    ``cause`` names the element of symmetry, ``reflections`` the zone and the condition in words.
    """

    cause: str
    reflections: str
    zone: tuple[tuple[int, int, int], ...]
    form: tuple[int, int, int]
    modulus: int


_H, _K, _L = (1, 0, 0), (0, 1, 0), (0, 0, 1)
CONDITIONS = (
    Condition("A", "hkl: k + l = 2n", (), (0, 1, 1), 2),
    Condition("B", "hkl: h + l = 2n", (), (1, 0, 1), 2),
    Condition("C", "hkl: h + k = 2n", (), (1, 1, 0), 2),
    Condition("I", "hkl: h + k + l = 2n", (), (1, 1, 1), 2),
    Condition("R obverse", "hkl: -h + k + l = 3n", (), (-1, 1, 1), 3),
    Condition("b ⊥ a", "0kl: k = 2n", (_H,), _K, 2),
    Condition("c ⊥ a", "0kl: l = 2n", (_H,), _L, 2),
    Condition("n ⊥ a", "0kl: k + l = 2n", (_H,), (0, 1, 1), 2),
    Condition("a ⊥ b", "h0l: h = 2n", (_K,), _H, 2),
    Condition("c ⊥ b", "h0l: l = 2n", (_K,), _L, 2),
    Condition("n ⊥ b", "h0l: h + l = 2n", (_K,), (1, 0, 1), 2),
    Condition("a ⊥ c", "hk0: h = 2n", (_L,), _H, 2),
    Condition("b ⊥ c", "hk0: k = 2n", (_L,), _K, 2),
    Condition("n ⊥ c", "hk0: h + k = 2n", (_L,), (1, 1, 0), 2),
    Condition("2₁ along a", "h00: h = 2n", (_K, _L), _H, 2),
    Condition("2₁ along b", "0k0: k = 2n", (_H, _L), _K, 2),
    Condition("2₁ along c", "00l: l = 2n", (_H, _K), _L, 2),
    Condition("3₁ along c", "00l: l = 3n", (_H, _K), _L, 3),
    Condition("4₁ along c", "00l: l = 4n", (_H, _K), _L, 4),
)  # International Tables A, section 1.6


def absence_table(data: Reflections) -> pd.DataFrame:
    """Strength of the reflections that break each reflection condition, for a list that still contains them.

    Columns: ``cause``, ``reflections`` in words, ``n`` measurements that break the condition, their mean
    ``i_over_sigma``, their mean intensity ``relative`` to that of all reflections, and ``is_required`` by the space
    group. Conditions that no measured reflection breaks are left out.
    """
    rows, mean = [], data.intensity.mean()
    is_absent = data.group.is_absent(data.hkl)
    for condition in CONDITIONS:
        in_zone = ~(data.hkl @ np.array(condition.zone).reshape(-1, 3).T).any(1)
        breaks = in_zone & (data.hkl @ np.array(condition.form) % condition.modulus != 0)
        if breaks.any():
            intensity = data.intensity[breaks]
            rows.append(
                {
                    "cause": condition.cause,
                    "reflections": condition.reflections,
                    "n": int(breaks.sum()),
                    "i_over_sigma": float((intensity / data.sigma[breaks]).mean()),
                    "relative": float(intensity.mean() / mean),
                    "is_required": bool(is_absent[breaks].all()),
                }
            )
    return pd.DataFrame(rows, columns=["cause", "reflections", "n", "i_over_sigma", "relative", "is_required"])
