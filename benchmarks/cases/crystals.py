"""The crystals of a benchmark by name: entries of the COD, CIFs of a folder, or random crystals."""

import argparse
import re
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from rephase.crystal.structures import Crystal, read_crystal
from rephase.crystal.symmetry import find_symmetry
from rephase.errors import CifError
from rephase.files.writing import writable_folder
from rephase.formats import cod
from rephase.paths import BENCHMARKS
from rephase.random_crystals.crystals import RandomCrystalOptions, random_crystals

COD_CRYSTALS = BENCHMARKS / "cod_crystals.csv"


def chosen_crystals(options: argparse.Namespace, files: list[Path]) -> dict[str, Crystal]:
    """Read the files of `crystal_files`, or generate random crystals; report what differs from the COD's table."""
    crystals = read_crystals(files) if options.random is None else made_crystals(options)
    if options.cod:
        name_changes(crystals)
    return crystals


def crystal_files(options: argparse.Namespace) -> list[Path]:
    """Choose every n-th CIF of the COD, of a folder, or of those with measured reflections; none if random."""
    if options.random is not None:
        return []
    if options.cod:
        numbers = cod_crystals().index[:: options.every].tolist()
        return fetched_files(numbers, options.url)
    paths = sorted((options.folder or options.measured).glob("*.cif"))
    if options.measured:
        paths = [path for path in paths if reflection_file(path) is not None]
    return paths[:: options.every]


def reflection_file(cif: Path) -> Path | None:
    """Return the file with the X-ray reflections of a CIF: NAME.hkl, or the CIF itself; None if there is neither."""
    beside, text = cif.with_suffix(".hkl"), cif.read_text(errors="replace")
    if re.search(r"^_diffrn_radiation_(type|probe)\s+['\"]?neutron", text, re.MULTILINE):
        print(f"{cif.stem}: left out: neutron data, while the program has form factors of X-rays", file=sys.stderr)
        return None
    if beside.is_file():
        return beside
    return cif if "_shelx_hkl_file" in text or "_refln_index_h" in text else None


def cod_crystals() -> pd.DataFrame:
    """Read space group, number of non-hydrogen sites and cell volume (Å^3) of the COD entries, by number."""
    return pd.read_csv(COD_CRYSTALS, dtype={"cod": str}, index_col="cod")


def fetched_files(numbers: list[str], url: str) -> list[Path]:
    """Download the entries; report those that fail, and return the CIFs of the others."""
    folder = writable_folder(cod.cache_folder(), name="REPHASE_CRYSTALS")
    report = cod.fetch_cod(numbers, folder, base_url=url, progress=partial(tqdm, unit="file", desc=str(folder)))
    for number, reason in report.failed.items():
        print(f"{number}: not downloaded: {reason}", file=sys.stderr)
    return [folder / f"{number}.cif" for number in numbers if number not in report.failed]


def read_crystals(paths: list[Path]) -> dict[str, Crystal]:
    """Read the crystals by the names of their files; report those that cannot be read."""
    crystals = {}
    for path in paths:
        try:
            crystals[path.stem] = read_crystal(path)
        except CifError as error:
            print(f"{path.stem}: not read: {error}", file=sys.stderr)
    return crystals


def describe(crystal: Crystal) -> dict[str, object]:
    """Describe a crystal as `cod_crystals` does."""
    n_sites = sum(element != "H" for element in crystal.asymmetric_unit.elements)
    symbol, volume = find_symmetry(crystal.space_group).symbol, round(crystal.cell.volume, 1)
    return {"space_group": symbol, "n_non_hydrogen": n_sites, "volume_A3": volume}


def name_changes(crystals: dict[str, Crystal]) -> None:
    """Report the COD entries that differ from the table."""
    for number, stated in cod_crystals().loc[list(crystals)].to_dict("index").items():
        found = describe(crystals[number])
        if found != stated:
            print(f"{number}: differs from cod_crystals.csv: {found}, expected {stated}", file=sys.stderr)


def made_crystals(options: argparse.Namespace) -> dict[str, Crystal]:
    """Generate random crystals, of each of the groups if any are named; by name."""
    if not options.groups:
        return some_crystals(options, RandomCrystalOptions(), f"random-{options.seed}")
    made = {}
    for symbol in options.groups:
        kinds = RandomCrystalOptions(space_groups=(symbol,))
        made |= some_crystals(options, kinds, f"{symbol.replace(' ', '')}-{options.seed}")
    return made


def some_crystals(options: argparse.Namespace, kinds: RandomCrystalOptions, name: str) -> dict[str, Crystal]:
    """Generate random crystals, called `name` and a number."""
    kinds = replace(kinds, n_atoms=tuple(options.n_atoms), elements=tuple(options.elements) or kinds.elements)
    generator = torch.Generator().manual_seed(options.seed)
    made = random_crystals(options.random, generator=generator, options=kinds, dtype=torch.float64)
    return {f"{name}-{i}": made.crystal(i) for i in range(0, options.random, options.every)}
