"""What became slower or faster since an earlier run of the suite.

A row has changed if its medians differ by more than 5 %, and by more than three standard errors. The standard error of
a median is 1.2533 σ / √n for normal noise, with σ = 1.4826 b times the median absolute deviation of the rounds, which a
few disturbed rounds do not change; b corrects for few rounds (Croux & Rousseeuw, in Computational Statistics 1,
Physica-Verlag (1992) 411). Those of both runs are added in quadrature. The rounds of one run share what disturbs the
machine for minutes: the peers, whose code has not changed, show that, of all rows and of each that changed, and so does
the load.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from measuring.tables import shown, title
from measuring.timing import OURS, Row

_N_ERRORS, _LEAST = 3.0, 0.05
_FREE = 0.5  # of the cores, up to which other work leaves one for the run
_FEW = {2: 1.196, 3: 1.495, 4: 1.363, 5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}  # b, by the number of rounds


class Changes(NamedTuple):
    """Lines of text for readers, by kind."""

    slower: list[str]
    faster: list[str]
    gone: list[str]
    new: list[str]
    peers: str

    def text(self) -> str:
        """Return all lines."""
        kinds = ("slower or larger", "faster or smaller", "gone", "new")
        said = [f"{kind}: {line}" for kind, lines in zip(kinds, self[:4]) for line in lines]
        return "\n".join([*(said or ["nothing changed beyond noise"]), *([self.peers] if self.peers else [])])


def standard_error(values: Sequence[float]) -> float:
    """Return the robust standard error of a median; infinite for a single value."""
    n, deviation = len(values), np.median(np.abs(np.array(values) - np.median(values)))
    return float(1.2533 * 1.4826 * _FEW.get(n, n / (n - 0.8)) * deviation / np.sqrt(n)) if n > 1 else np.inf


def change(earlier: Sequence[float], later: Sequence[float]) -> float:
    """Return the ratio of the medians, later over earlier; exactly 1 if they do not differ beyond noise."""
    before, after = float(np.median(earlier)), float(np.median(later))
    noise = np.hypot(standard_error(earlier), standard_error(later))
    if before <= 0 or abs(after - before) <= max(_N_ERRORS * noise, _LEAST * before):
        return 1.0
    return after / before


def other_machine(earlier: dict[str, object], machine: dict[str, object]) -> str:
    """Say how an earlier run's machine differs; empty if it does not."""
    before = earlier["machine"]
    keys = dict.fromkeys([*before, *machine])
    return ", ".join(
        f"{key} {before.get(key)} instead of {machine.get(key)}" for key in keys if before.get(key) != machine.get(key)
    )


def other_programs(earlier: dict[str, object], programs: dict[str, str]) -> str:
    """Say which versions differ from those of an earlier run; empty if none does."""
    before = earlier["programs"]
    keys = [key for key in dict.fromkeys([*before, *programs]) if key != "commit"]
    return ", ".join(
        f"{key} {before.get(key)}, now {programs.get(key)}" for key in keys if before.get(key) != programs.get(key)
    )


def other_work(earlier: dict[str, object], later: dict[str, object]) -> str:
    """Say which of two runs shared its cores with other work, by the load at its start; empty if none did."""
    cores = later["machine"]["cores"]
    loads = {"earlier": earlier["moments"]["start"]["load"], "later": later["moments"]["start"]["load"]}
    busy = [
        f"the {name} run started at a load of {load} on {cores} cores"
        for name, load in loads.items()
        if load > _FREE * cores
    ]
    return f"{' and '.join(busy)}: changes may be due to other work, so measure again without it" if busy else ""


def compare(earlier: list[Row], later: list[Row]) -> Changes:
    """Compare the rows of two runs by name, size and unit."""
    before, after = ({(r["name"], r["size"], r["unit"]): r for r in rows} for rows in (earlier, later))
    found = Changes([], [], [], [], _peers(before, after))
    for key, row in after.items():
        if key not in before:
            found.new.append(_named(row))
            continue
        old, new = (r[key]["values"][OURS] for r in (before, after))
        ratio = change(old, new)
        if ratio != 1.0:
            unit = row["unit"]
            was, now = (shown(float(np.median(values)), unit) for values in (old, new))
            beside = [f"{ratio:.2f}×", *(f"{name} {r:.2f}×" for name, r in _peers_of(before[key], row).items())]
            (found.slower if ratio > 1 else found.faster).append(f"{title(row)}: {was} → {now} ({', '.join(beside)})")
    found.gone.extend(_named(row) for key, row in before.items() if key not in after)
    return found


def _named(row: Row) -> str:
    """Return the name of a row, with its unit where that is not a time."""
    return title(row) if row["unit"] == "s" else f"{title(row)}, {row['unit']}"


def _peers_of(before: Row, after: Row) -> dict[str, float]:
    """Return the ratio of the medians, later over earlier, of each peer that was measured in both rows."""
    medians = {name: float(np.median(values)) for name, values in before["values"].items() if name != OURS}
    both = {name: was for name, was in medians.items() if was > 0 and name in after["values"]}
    return {name: float(np.median(after["values"][name])) / was for name, was in both.items()}


def _peers(before: dict[tuple, Row], after: dict[tuple, Row]) -> str:
    """Say by how much the peers changed, as a measure of the machine; empty without peers."""
    changes = [r for key in before.keys() & after.keys() for r in _peers_of(before[key], after[key]).values()]
    if not changes:
        return ""
    low, middle, high = np.percentile(changes, [25, 50, 75])
    return (
        f"the peers took {middle:.2f} times as long as in the earlier run "
        f"(quartiles {low:.2f} to {high:.2f}); a change as small as that is the machine's"
    )
