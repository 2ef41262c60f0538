"""The section ``cluster`` of a sweep: the workers that Dask or a batch system starts for it."""

import re
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from rephase.config.sections import Section


class ClusterConfig(Section):
    """Workers of a cluster: how many of them, and what a job of SLURM or PBS asks for; each works on one run."""

    minimum: int = Field(0, ge=0, description="workers that are kept, even when no run is waiting")
    maximum: int | None = Field(None, ge=1, description="most workers at the same time; null: the number of --jobs")
    queue: str | None = Field(None, description="queue of PBS, or partition of SLURM; null: that of the site")
    account: str | None = Field(None, description="account that is charged; null: the user's own")
    cores: int = Field(1, ge=1, description="cores of a job")
    memory: float = Field(4.0, gt=0, description="memory of a job (GB)")
    walltime: float = Field(1.0, gt=0, description="time limit of a job (hours)")
    directives: tuple[str, ...] = Field((), description="further directives of the job script, e.g. --gres=gpu:1")
    before: tuple[str, ...] = Field((), description="shell lines before the worker starts, e.g. module load cuda")
    interface: str | None = Field(None, description="network interface that workers reach, e.g. ib0; null: the default")
    logs: Path | None = Field(None, description="folder for the output of jobs; null: as the batch system does")

    @field_validator("directives", "before")
    @classmethod
    def _one_line(cls, lines: tuple[str, ...]) -> tuple[str, ...]:
        for line in lines:
            if not line.strip() or not line.isprintable():
                raise ValueError(f"{line!r}: expected one line of text for each entry")
            if re.match(r"#\s*(SBATCH|PBS)\b", line):
                raise ValueError(f"{line!r}: expected the directive without its mark; leave out #SBATCH or #PBS")
        return lines

    @model_validator(mode="after")
    def _in_order(self) -> "ClusterConfig":
        if self.maximum is not None and self.maximum < self.minimum:
            raise ValueError(f"maximum = {self.maximum}: expected at least minimum = {self.minimum}")
        return self
