"""What became of each notebook of a run: kept beside them in ``status.json``."""

import os
import warnings
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rephase.files.checksums import is_as_written, write_checked
from rephase.errors import PipelineError
from rephase.files.reading import file_bytes


class Outcome(BaseModel):
    """How long a notebook took, what it was made from, or where and how it failed."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    seconds: float = 0.0
    finished: str = ""
    error: str = ""
    cell: int | None = None


_STATUS = TypeAdapter(dict[str, Outcome])


def read_status(folder: Path) -> dict[str, Outcome]:
    """What became of each notebook so far, by its name.

    Raises
    ------
    PipelineError
        The record cannot be read.

    Warns
    -----
    UserWarning
        It is damaged: nothing counts as finished.
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
    said = "damaged, or changed after it was written; nothing counts as finished, and every notebook is run again"
    warnings.warn(f"{path}: {said}", stacklevel=2)
    return {}


def write_status(folder: Path, status: dict[str, Outcome]) -> None:
    """Write the record whole, with its checksum."""
    write_checked(folder / "status.json", _STATUS.dump_json(status, indent=1))


def executed(folder: Path, name: str) -> Path:
    """Where a notebook with its outputs lies."""
    return folder / "notebooks" / f"{name}.ipynb"


def read_notebook(path: Path) -> NotebookNode:
    """Read a notebook.

    Raises
    ------
    PipelineError
        It is missing or damaged: perhaps the machine stopped while it was written.
    """
    try:
        notebook = nbformat.reads(file_bytes(path, PipelineError).decode(), as_version=4)
        nbformat.validate(notebook)
    except PipelineError:
        raise
    except Exception as error:  # what nbformat raises depends on where the file ends
        raise PipelineError(f"{path}: a damaged notebook; run it again") from error
    return notebook


def seal(path: Path) -> None:
    """Write the checksum of an executed notebook beside it: what changes it later is said in the report."""
    if path.is_file():
        write_checked(path, path.read_bytes())


def is_whole(path: Path) -> bool:
    """Whether a notebook can be read."""
    try:
        read_notebook(path)
    except PipelineError:
        return False
    return True
