"""Mutated files of every format, read, merged and made amplitudes: what comes out, and how long the slowest takes.

    rephase bench fuzz_readers

Only reflections or an error of the domain may come out, each within five seconds. The files are measured data where
the folder of real structures is beside the project, else computed; each is changed by hypothesis in up to four places.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when numpy is imported

import re
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import gemmi
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rephase.crystal.cell import Cell
from rephase.crystal.phase_lists import read_phases
from rephase.crystal.reflection_files import read_reflections, write_hklf4, write_mtz
from rephase.crystal.reflections import Reflections
from rephase.crystal.structure import read_crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import RephaseError
from rephase.paths import ROOT

N_EXAMPLES, LIMIT_S = 10_000, 5.0
REAL = ROOT.parent / "shared" / "crystals" / "2012000.hkl"
TOKENS = [
    *(b"nan", b"inf", b"-", b"?", b".", b"0", b"1e999", b"99999999", b"-1001", b" ", b"\n", b"\0", b"'", b";", b"_"),
    *(b"loop_\n", b"data_x\n", b"   0   0   0\n", b"CELL ", b"SYMM ", b"=\n ", b"__import__('os')", b"\xff", b"1/0"),
]
KINDS = ("digit", "repeat line", "delete line", "insert", "replace", "delete", "repeat", "flip", "cut")
EDITS = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.integers(0, 2**40).map(lambda n: n * 2654435761 % 2**32 / 2**32),  # hypothesis prefers small n
        st.integers(1, 60),
        st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=4,
)


def mutated(content: bytes, edits: list[tuple[str, float, int, bytes]]) -> bytes:
    """The content with each edit made in turn: where (as a part of the length), how many bytes, what comes in."""
    for kind, place, length, token in edits:
        start = int(place * len(content))
        before, piece, after = content[:start], content[start : start + length], content[start + length :]
        line_start, line_end = content.rfind(b"\n", 0, start) + 1, content.find(b"\n", start) + 1 or len(content)
        content = {
            "insert": before + token + piece + after,
            "replace": before + token + after,
            "delete": before + after,
            "repeat": before + piece * 3 + after,
            "flip": before + bytes(255 - byte for byte in piece[:1]) + piece[1:] + after,
            "digit": before + re.sub(rb"\d", b"%d" % (length % 10), piece, count=1) + after,
            "repeat line": content[:line_end] + content[line_start:line_end] + content[line_end:],
            "delete line": content[:line_start] + content[line_end:],
            "cut": before,
        }[kind]
    return content


def sample() -> Reflections:
    """A short list of measured data, or a computed one."""
    if REAL.is_file():
        return read_reflections(REAL).take(np.arange(60))
    hkl = np.array([[h, k, l] for h in range(-2, 3) for k in range(5) for l in range(1, 5)])
    intensity = np.random.default_rng(0).exponential(100, len(hkl))
    return Reflections(hkl, intensity, 1 + 0.02 * intensity, Cell(7.6, 10, 13.7, 90, 99, 90), find_symmetry("P 21"))


def write_seeds(folder: Path) -> dict[str, list[Path]]:
    """One file, with what belongs beside it, of every format: by its name the files that may be changed."""
    data = sample()
    rows = list(zip(data.hkl.tolist(), data.intensity, data.sigma))
    head = "data_seed\n_cell_length_a 7.595\n_cell_length_b 9.9731\n_cell_length_c 13.7266\n_cell_angle_alpha 90\n"
    head += "_cell_angle_beta 98.967\n_cell_angle_gamma 90\n_symmetry_space_group_name_H-M 'P 1 21 1'\n"
    operations = "loop_\n_symmetry_equiv_pos_as_xyz\n'x, y, z'\n'-x, y+1/2, -z'\n"
    loop = "loop_\n_refln_index_h\n_refln_index_k\n_refln_index_l\n"
    macro = head.replace("_length_", ".length_").replace("_angle_", ".angle_").replace("_symmetry_", "_symmetry.")
    sites = "SFAC C H\nUNIT 40 40\nFVAR 0.5 0.7\nC1 1 0.1 0.2 0.3 11.0 0.04 0.05 =\n  0.03 0.001 0.002 0.01\n"
    sites += "H1 2 0.15 0.22 0.31 21.0 -1.2\nHKLF 4\nEND\n"
    ins = "TITL seed\nCELL 0.71073 7.595 9.9731 13.7266 90 98.967 90\nLATT -1\nSYMM -X, 0.5+Y, -Z\nHKLF 4\nEND\n"
    measured = "_refln_F_squared_meas\n_refln_F_squared_sigma\n"
    core = "".join(f"{h} {k} {l} {value:.2f} {sigma:.2f} o\n" for (h, k, l), value, sigma in rows)
    phased = "".join(f"{h} {k} {l} {value:.2f} {sigma:.2f} 120.0\n" for (h, k, l), value, sigma in rows)
    write_hklf4(folder / "shelx.hkl", data)
    fixed = (folder / "shelx.hkl").read_text()
    texts = {
        "cod.hkl": f"{head}{operations}{loop}{measured}_refln_observed_status\n{core}",
        "list6.fcf": f"{head}{loop}{measured}_refln_phase_calc\n{phased}",
        "macro.cif": macro + (loop + "_refln_F_meas_au\n_refln_F_meas_sigma_au\n_refln_status\n").replace(
            "_refln_", "_refln.") + core,
        "embedded.cif": f"{head}_shelx_hkl_file\n;\n{fixed};\n",
        "spaced.hkl": "".join(f"{h} {k} {l} {value:.3f} {sigma:.3f}\n" for (h, k, l), value, sigma in rows),
        "model.res": ins.split("HKLF")[0] + sites,
        "shelx.ins": ins,
        "spaced.ins": ins,
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    root = np.sqrt(np.abs(data.intensity))
    for name in ("phased.mtz", "phases.mtz"):
        write_mtz(folder / name, data.hkl, root, root % 3, np.ones(len(data)), data.cell, data.group)
    (folder / "phases.fcf").write_text(texts["list6.fcf"])
    _write_unmerged_mtz(folder / "measured.mtz", data)
    changed = {
        name: [folder / name]
        for name in (*texts, "phased.mtz", "phases.mtz", "phases.fcf", "measured.mtz")
        if not name.endswith(".ins")
    }
    return changed | {"shelx.hkl": [folder / "shelx.hkl"], "shelx.ins": [folder / "shelx.ins", folder / "shelx.hkl"]}


def _write_unmerged_mtz(path: Path, data: Reflections) -> None:
    mtz = gemmi.Mtz(with_base=True)
    mtz.spacegroup = gemmi.SpaceGroup("P 1 21 1")
    mtz.add_dataset("seed")
    mtz.set_cell_for_all(gemmi.UnitCell(*data.cell.parameters))
    mtz.add_column("I", "J")
    mtz.add_column("SIGI", "Q")
    mtz.set_data(np.column_stack([data.hkl, data.intensity, data.sigma]).astype(np.float32))
    mtz.write_to_file(str(path))


def measured(path: Path) -> None:
    """Read measured data and use them."""
    read_reflections(path).merge().reflections.amplitudes()


READERS = {"model.res": read_crystal, "phases.mtz": read_phases, "phases.fcf": read_phases}  # of the others: measured


def outcome(seeds: list[Path], edits: list) -> tuple[str, float]:
    """The error's name or ``read``, and the seconds that it took; the first of the seeds is changed."""
    with tempfile.TemporaryDirectory() as name:
        target = Path(name) / seeds[0].name
        for beside in {*seeds[1:], *seeds[0].parent.glob(f"{seeds[0].stem}.ins")}:
            (target.parent / beside.name).write_bytes(beside.read_bytes())
        target.write_bytes(mutated(seeds[0].read_bytes(), edits))
        start = time.perf_counter()
        try:
            READERS.get(seeds[-1].name, measured)(target.parent / seeds[-1].name)
            found = "read"
        except RephaseError as error:
            found = type(error).__name__
        return found, time.perf_counter() - start


def fuzz(seeds: list[Path], n_examples: int, record: Callable[[str, float], None]) -> None:
    """Read `n_examples` mutated copies; an error that is not of the domain gets out."""

    @settings(
        max_examples=n_examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(EDITS)
    def check(edits: list) -> None:
        record(*outcome(seeds, edits))

    check()


def main() -> None:
    """Print the counts of each format."""
    warnings.filterwarnings("error", category=RuntimeWarning)
    warnings.filterwarnings("ignore", category=UserWarning)
    with tempfile.TemporaryDirectory() as name:
        formats = write_seeds(Path(name))
        print("format        files    read  domain errors  slowest/s")
        for label, seeds in formats.items():
            counts: Counter[str] = Counter()
            times: list[float] = []

            def record(found: str, seconds: float, counts=counts, times=times) -> None:
                counts[found] += 1
                times.append(seconds)

            fuzz(seeds, -(-N_EXAMPLES // len(formats)), record)
            n_errors = counts.total() - counts["read"]
            print(f"{label:<12} {len(times):6d}  {counts['read']:6d}  {n_errors:13d}  {max(times):9.3f}", flush=True)
            assert max(times) < LIMIT_S, label
    print("nothing but reflections and domain errors came out")


if __name__ == "__main__":
    main()
