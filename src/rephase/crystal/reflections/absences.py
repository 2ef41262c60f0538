"""Systematic absences: how strong are the reflections that each centring, glide plane and screw axis would forbid."""

from functools import cache
from typing import NamedTuple

import gemmi
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

    def breaking(self, hkl: np.ndarray) -> np.ndarray:
        """Return which of ``hkl [n, 3]`` the condition forbids."""
        in_zone = ~(hkl @ np.array(self.zone).reshape(-1, 3).T).any(1)
        return np.asarray(in_zone & (hkl @ np.array(self.form) % self.modulus != 0))


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


_ORDERS = {-1: 2, 0: 3, 1: 4, 2: 6}  # of a rotation, by its trace
_FEW = np.array([hkl for hkl in np.ndindex(9, 9, 9) if hkl != (4, 4, 4)], np.int32) - 4  # they break every condition


def absence_table(data: Reflections) -> pd.DataFrame:
    """Strength of the reflections that break each reflection condition, for a list that still contains them.

    The conditions of the space group are always listed, with n = 0 and NaN if their reflections were not measured; of
    the others, those that measured reflections break and that a group of the same crystal class requires.

    Columns: ``cause``, ``reflections`` in words, ``n`` measurements that break the condition, their mean
    ``i_over_sigma``, their mean intensity ``relative`` to that of all reflections, and ``is_required`` by the space
    group.
    """
    rows, mean = [], data.intensity.mean()
    own, possible = _required(data.group.group_ops), _required_by_any(_laue_class(data.group.group_ops))
    for condition in CONDITIONS:
        breaks = condition.breaking(data.hkl)
        is_required = condition.cause in own
        if is_required or (breaks.any() and condition.cause in possible):
            intensity, n = data.intensity[breaks], int(breaks.sum())
            rows.append(
                {
                    "cause": condition.cause,
                    "reflections": condition.reflections,
                    "n": n,
                    "i_over_sigma": float((intensity / data.sigma[breaks]).mean()) if n else np.nan,
                    "relative": float(intensity.mean() / mean) if n else np.nan,
                    "is_required": is_required,
                }
            )
    return pd.DataFrame(rows, columns=["cause", "reflections", "n", "i_over_sigma", "relative", "is_required"])


def _required(operations: gemmi.GroupOps) -> frozenset[str]:
    """Causes of the conditions of a group, without those that only repeat its centring or another element."""
    is_absent, by_centring = (ops.systematic_absences(_FEW) for ops in (operations, operations.derive_symmorphic()))
    causes = set()
    for condition in CONDITIONS:
        tested = condition.breaking(_FEW) & ~(by_centring & bool(condition.zone))
        if tested.any() and is_absent[tested].all() and _has_element(operations, condition):
            causes.add(condition.cause)
    return frozenset(causes)


def _has_element(operations: gemmi.GroupOps, condition: Condition) -> bool:
    """Whether a group has a mirror of the condition's plane, or a rotation about its axis whose order can screw so."""
    if not condition.zone:
        return True  # a centring
    kept = _FEW[~(_FEW @ np.array(condition.zone).T).any(1)]
    for rotation in np.array([operation.rot for operation in operations.sym_ops]) // gemmi.Op.DEN:
        is_proper, trace = np.linalg.det(rotation) > 0, int(np.trace(rotation))
        fits = is_proper and trace < 3 and _ORDERS[trace] % condition.modulus == 0
        if (fits if len(condition.zone) == 2 else not is_proper) and (kept @ rotation == kept).all():
            return True
    return False


@cache
def _required_by_any(laue_class: frozenset[tuple[int, ...]]) -> frozenset[str]:
    """Causes of the conditions of all tabulated groups of a Laue class in the same setting."""
    groups = (entry.operations() for entry in gemmi.spacegroup_table())
    return frozenset().union(*(_required(group) for group in groups if _laue_class(group) == laue_class))


def _laue_class(operations: gemmi.GroupOps) -> frozenset[tuple[int, ...]]:
    """Rotations of a group and their inverses through a centre, as rows of numbers."""
    rotations = np.array([operation.rot for operation in operations.sym_ops]).reshape(-1, 9) // gemmi.Op.DEN
    return frozenset(map(tuple, np.concatenate([rotations, -rotations]).tolist()))
