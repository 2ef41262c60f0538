"""The outcome of each notebook of a run, kept in ``status.json``."""

import os
import warnings
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rephase.errors import PipelineError
from rephase.files.checksums import is_as_written, write_checked
from rephase.files.reading import file_bytes


class Outcome(BaseModel):
    """Time a notebook took (s), fingerprint of its inputs once finished, or the error and the cell where it failed."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    seconds: float = 0.0
    finished: str = ""
    error: str = ""
    cell: int | None = None


_STATUS = TypeAdapter(dict[str, Outcome])


def read_status(folder: Path) -> dict[str, Outcome]:
    """Read the outcome of each notebook so far, by name.

    Raises
    ------
    PipelineError
        The record cannot be read.

    Warns
    -----
    UserWarning
        The record is damaged: nothing counts as finished.
    """
    path = folder / "status.json"
    if not os.path.lexists(path):
        return {}
    try:
        content = file_bytes(path, PipelineError)
        if is_as_written(path):
            return _STATUS.validate_json(content)
    except ValidationError:
        pass
    said = "damaged, or changed after it was written; nothing counts as finished, so every notebook is run again"
    warnings.warn(f"{path}: {said}", stacklevel=2)
    return {}


def write_status(folder: Path, status: dict[str, Outcome]) -> None:
    """Write the record as a whole, with its checksum."""
    write_checked(folder / "status.json", _STATUS.dump_json(status, indent=1))


def executed(folder: Path, name: str) -> Path:
    """Return the path of an executed notebook."""
    return folder / "notebooks" / f"{name}.ipynb"


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook.

    Raises
    ------
    PipelineError
        The notebook is missing or damaged, perhaps because the machine stopped while it was being written.
    """
    try:
        notebook = nbformat.reads(file_bytes(path, PipelineError).decode(), as_version=4)
        nbformat.validate(notebook)
    except PipelineError:
        raise
    except Exception as error:  # nbformat raises different errors, depending on where the file ends
        raise PipelineError(f"{path}: a damaged notebook; run it again") from error
    return notebook


def seal(path: Path) -> None:
    """Write the checksum of an executed notebook beside it, so that the report can mention later changes."""
    if path.is_file():
        write_checked(path, path.read_bytes())


def is_whole(path: Path) -> bool:
    """Whether a notebook can be read."""
    try:
        read_notebook(path)
    except PipelineError:
        return False
    return True
