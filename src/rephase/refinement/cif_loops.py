"""The loops of a model's CIF: scattering, atoms, bonds, angles and hydrogen bonds."""

from collections.abc import Iterable, Sequence

import gemmi

from rephase.crystal.cif_head import bracketed
from rephase.crystal.labels import short_labels
from rephase.refinement.bond_lists import bond_angles, bond_lengths, bond_torsions, hydrogen_bonds
from rephase.refinement.factors import dispersion_corrections
from rephase.refinement.model import Model
from rephase.refinement.sites import multiplicity

_SCATTERING = "International Tables Vol. C Table 6.1.1.4"
_DISPERSION = "dispersion: Cromer & Liberman (1970)"
_AFIX_TAGS = "calc", "R"
_ANGLE_ENDS = "_site_symmetry_1", "_site_symmetry_3", "_publ_flag"
_TORSION_ENDS = *(f"_site_symmetry_{number}" for number in (1, 2, 3, 4)), "_publ_flag"


def add_loops(block: gemmi.cif.Block, model: Model) -> None:
    """Add the loops of a model to a block."""
    names = short_labels(model.sites.labels, model.sites.elements)
    _add_types(block, model)
    _add_atoms(block, model, names)
    _add_bonds(block, model, names)
    _add_angles(block, model, names)
    _add_torsions(block, model, names)
    _add_hydrogen_bonds(block, model, names)


def _add_types(block: gemmi.cif.Block, model: Model) -> None:
    """Scattering factors; a dispersion that was not applied has no value."""
    elements = list(model.contents())
    if model.wavelength is None:
        rows = [(element, element, ".", ".", _SCATTERING) for element in elements]
    else:
        rows = [
            (element, element, f"{f.real:.4f}", f"{f.imag:.4f}", f"{_SCATTERING}; {_DISPERSION}")
            for element, f in zip(elements, dispersion_corrections(elements, model.wavelength))
        ]
    tags = "symbol", "description", "scat_dispersion_real", "scat_dispersion_imag", "scat_source"
    _add_loop(block, "_atom_type_", tags, rows)


def _add_atoms(block: gemmi.cif.Block, model: Model, names: list[str]) -> None:
    sites, su = model.sites, model.uncertainties
    u = sites.u_equivalent(model.cell)
    images = len(model.symmetry.triplets) // multiplicity(sites.xyz_frac, model.cell, model.symmetry)
    rows, anisotropic = [], []
    for i, name in enumerate(names):
        rides = sites.parent[i] >= 0
        place = [bracketed(x, 0.0 if rides else s, 5) for x, s in zip(sites.xyz_frac[i], su.xyz_frac[i])]
        rows.append(
            [
                *(name, sites.elements[i], *place),
                bracketed(u[i], 0.0 if rides else su.u_equivalent[i], 3 if rides else 4),
                "Uani" if sites.is_anisotropic[i] else "Uiso",
                bracketed(sites.occupancy[i], su.occupancy[i], 3 if sites.occupancy[i] < 1 else 0),
                str(images[i]),
                *(_AFIX_TAGS if rides else ("d", "S" if images[i] > 1 else ".")),
                str(sites.part[i]) if sites.part[i] else ".",
            ]
        )
        if sites.is_anisotropic[i]:
            anisotropic.append([name, *(bracketed(x, s) for x, s in zip(sites.U[i], su.U[i]))])
    tags = "label type_symbol fract_x fract_y fract_z U_iso_or_equiv adp_type occupancy site_symmetry_order calc_flag"
    _add_loop(block, "_atom_site_", [*tags.split(), "refinement_flags_posn", "disorder_group"], rows)
    tags = "label U_11 U_22 U_33 U_23 U_13 U_12"
    _add_loop(block, "_atom_site_aniso_", tags.split(), anisotropic)


def _add_bonds(block: gemmi.cif.Block, model: Model, names: list[str]) -> None:
    bonds = bond_lengths(model)
    rows = [
        (names[i], names[j], bracketed(value, su), code, "?")
        for (i, j), value, su, code in zip(bonds.atoms, bonds.value, bonds.su, bonds.code)
    ]
    tags = "atom_site_label_1 atom_site_label_2 distance site_symmetry_2 publ_flag"
    _add_loop(block, "_geom_bond_", tags.split(), rows)


def _add_angles(block: gemmi.cif.Block, model: Model, names: list[str]) -> None:
    angles = bond_angles(model)
    rows = [
        (names[i], names[j], names[k], bracketed(value, su, 1), *codes, "?")
        for (i, j, k), value, su, *codes in zip(angles.atoms, angles.value, angles.su, *angles.codes)
    ]
    tags = "atom_site_label_1 atom_site_label_2 atom_site_label_3"
    _add_loop(block, "_geom_angle", [*(f"_{tag}" for tag in tags.split()), "", *_ANGLE_ENDS], rows)


def _add_torsions(block: gemmi.cif.Block, model: Model, names: list[str]) -> None:
    torsions = bond_torsions(model)
    rows = [
        (*(names[i] for i in row), bracketed(value, su, 1), *codes, "?")
        for row, value, su, *codes in zip(torsions.atoms, torsions.value, torsions.su, *torsions.codes)
    ]
    tags = (f"_atom_site_label_{number}" for number in (1, 2, 3, 4))
    _add_loop(block, "_geom_torsion", [*tags, "", *_TORSION_ENDS], rows)


def _add_hydrogen_bonds(block: gemmi.cif.Block, model: Model, names: list[str]) -> None:
    found, su = hydrogen_bonds(model)
    atoms = zip(found.donor, found.hydrogen, found.acceptor)
    lengths = zip(found.donor_hydrogen, found.hydrogen_acceptor, found.donor_acceptor, su)
    rows = [
        (*(names[i] for i in row), f"{dh:.2f}", f"{ha:.2f}", bracketed(da, error), f"{angle:.1f}", code)
        for row, (dh, ha, da, error), angle, code in zip(atoms, lengths, found.angle, found.code)
    ]
    tags = "atom_site_label_D atom_site_label_H atom_site_label_A distance_DH distance_HA distance_DA angle_DHA"
    _add_loop(block, "_geom_hbond_", [*tags.split(), "site_symmetry_A"], rows)


def _add_loop(block: gemmi.cif.Block, prefix: str, tags: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Add a loop with quoted words; none if there are no rows."""
    rows = list(rows)
    if rows:
        loop = block.init_loop(prefix, list(tags))
        for row in rows:
            loop.add_row([value if value in (".", "?") else gemmi.cif.quote(value) for value in row])
