"""The processes that share a training: how many there are, which one this is, and whether they can start here."""

import os
from dataclasses import dataclass

from rephase.errors import ConfigError, check_count, nearest_name

STRATEGIES = ("auto", "ddp")
_MANUAL = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")  # with them, Lightning itself starts the processes of a node
_NO_JOB = ("bash", "interactive")  # names of SLURM jobs in which Lightning starts the processes itself


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, one for each device of each node.

    Parameters
    ----------
    devices
        Devices of each node.
    nodes
        Number of machines.
    strategy
        How the processes join their gradients, as Lightning names it; ``auto`` is ``ddp`` for several processes.
    """

    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"

    @property
    def count(self) -> int:
        """Number of processes."""
        return self.devices * self.nodes

    def own(self) -> int:
        """Return the number of this process; 0 is the one that builds data, writes and prints."""
        if self.count == 1:
            return 0
        starter, given = starter_of_ranks(), os.environ
        if starter != "Lightning":
            return int(given["RANK" if starter == "torchrun" else "SLURM_PROCID"])
        return int(given.get("NODE_RANK", "0")) * self.devices + int(given.get("LOCAL_RANK", "0"))


ALONE = Ranks()


def starter_of_ranks() -> str:
    """Return who starts the processes, in the order in which Lightning looks: ``torchrun``, ``SLURM`` or itself."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun"
    is_job = "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in _NO_JOB
    return "SLURM" if is_job else "Lightning"


def check_ranks(ranks: Ranks) -> None:
    """Raise `ConfigError` if the processes could not find each other, in which case they would wait for ever."""
    check_count("devices", ranks.devices, remedy="give the number of devices of each node")
    check_count("nodes", ranks.nodes, remedy="give the number of machines")
    if ranks.strategy not in STRATEGIES:
        raise ConfigError(f"strategy = {ranks.strategy!r}; {nearest_name(ranks.strategy, STRATEGIES)}")
    if ranks.count == 1:
        return
    given, starter = os.environ, starter_of_ranks()
    if starter != "Lightning":
        n = given["WORLD_SIZE" if starter == "torchrun" else "SLURM_NTASKS"]
        if n != str(ranks.count):
            raise ConfigError(
                f"devices x nodes = {ranks.count}: {starter} starts {n} processes; start one for each device of each "
                "node, in a job of SLURM with srun --ntasks-per-node=DEVICES"
            )
    elif ranks.nodes > 1 and (missing := [name for name in _MANUAL if name not in given]):
        raise ConfigError(
            f"nodes = {ranks.nodes}: expected a job of SLURM, torchrun, or {', '.join(_MANUAL)} in the environment "
            f"(missing: {', '.join(missing)}); start it with srun in a job of SLURM"
        )
