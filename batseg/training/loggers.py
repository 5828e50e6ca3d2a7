"""Where training numbers go: a CSV file that survives a restart, and wandb, offline unless there is a key."""

import csv
import logging
import netrc
import os
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from batseg.volumes import replacing

log = logging.getLogger(__name__)


class CsvMetrics(Logger):
    """All logged numbers in one CSV, one row per step; a resumed run goes on with the rows before its checkpoint."""

    def __init__(self, folder: str | Path):
        super().__init__()
        self.path = Path(folder) / "metrics.csv"
        self.rows: dict[int, dict[str, float]] | None = None
        self.next_save = 0.0

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @property
    @rank_zero_experiment
    def experiment(self) -> dict[int, dict[str, float]]:
        if self.rows is None:
            self.rows = read_metrics(self.path) if self.path.exists() else {}
        return self.rows

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        rows, step = self.experiment, 0 if step is None else int(step)
        if step not in rows:
            for later in [known for known in rows if known > step]:  # of a run that was cut off after its checkpoint
                del rows[later]
        rows.setdefault(step, {}).update({key: float(value) for key, value in metrics.items()})

    @rank_zero_only
    def log_hyperparams(self, params: Mapping | Namespace, *args, **kwargs) -> None:
        """The configuration is written beside the metrics as config.yaml, not here."""

    @rank_zero_only
    def save(self) -> None:
        """Write the file, but spend no more than a twentieth of the time on it."""
        if time.monotonic() >= self.next_save:
            begin = time.monotonic()
            self.write()
            self.next_save = time.monotonic() + max(1.0, 20 * (time.monotonic() - begin))

    def write(self) -> None:
        """The whole file, anew."""
        if not self.rows:
            return
        columns = ["step", *sorted({key for row in self.rows.values() for key in row})]
        with replacing(self.path) as draft, draft.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({"step": step, **row} for step, row in sorted(self.rows.items()))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.write()


def read_metrics(path: str | Path) -> dict[int, dict[str, float]]:
    """{step: {name: value}} from a metrics.csv."""
    with Path(path).open(newline="") as file:
        return {
            int(row.pop("step")): {key: float(value) for key, value in row.items() if value}
            for row in csv.DictReader(file)
        }


class Wandb(WandbLogger):
    """Weights & Biases; mode 'auto' is online where an API key is found and offline elsewhere.

    Going online must never cost a run: if it fails, the run is logged offline (`wandb sync` uploads it later).
    """

    def __init__(self, folder: str | Path, project: str = "batseg", name: str | None = None, mode: str = "auto"):
        if mode not in ("auto", "online", "offline"):
            raise ValueError(f"logger.mode must be auto, online or offline, got {mode!r}")
        os.environ.setdefault("WANDB_SILENT", "true")
        online = mode == "online" or (mode == "auto" and has_wandb_key())
        super().__init__(name=name, project=project, save_dir=str(folder), offline=not online)
        self._wandb_init.pop("anonymous", None)  # wandb warns about it

    @property
    @rank_zero_experiment
    def experiment(self):
        try:
            return super().experiment
        except Exception as error:
            if self._offline:
                raise
            log.warning("wandb: online failed (%s), going on offline", str(error).splitlines()[0])
            self._offline = True
            self._wandb_init["mode"] = "offline"
            return super().experiment

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the run, so that the next fit of this process gets a run of its own."""
        if self._experiment is not None:
            self._experiment.finish(exit_code=int(status != "success"))
            self._experiment = None


def has_wandb_key() -> bool:
    """Whether this user can log on to wandb without being asked."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
