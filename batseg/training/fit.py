"""Fitting: the trainer with its callbacks, resuming, and the record that a fit is finished."""

import logging
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import nn

from batseg.inference.bundle import load_bundle
from batseg.inference.memory import peak_resident_bytes
from batseg.training.callbacks import (
    FINAL,
    LAST,
    AtomicCheckpoints,
    AveragedWeights,
    Checkpoints,
    Preemption,
    RandomState,
    StepTime,
    TrainingProgress,
)
from batseg.training.data import WaitingShare
from batseg.volumes import InputError, write_json

log = logging.getLogger(__name__)


def make_trainer(
    folder: str | Path,
    max_steps: int,
    loggers: Sequence[pl.loggers.Logger] = (),
    checkpoint_every: int = 100,
    monitor: str | None = None,
    ema: float | None = None,
    precision: str = "auto",
    description: str = "train",
    callbacks: Sequence[pl.Callback] = (),
    **settings,
) -> pl.Trainer:
    """A Lightning trainer with this project's callbacks.

    precision 'auto': bf16-mixed on a GPU; fp32 on a CPU, where bf16 training gives non-finite gradients.
    ema : decay of the exponential moving average of the weights (which is then the result), or None.
    settings : of pytorch_lightning.Trainer.
    """
    quiet()
    if precision == "auto":
        on_gpu = torch.cuda.is_available() and settings.get("accelerator", "auto") != "cpu"
        precision = "bf16-mixed" if on_gpu else "32-true"
    own = [RandomState(), StepTime(), WaitingShare(), TrainingProgress(description), Preemption()]
    own += [AveragedWeights(ema)] if ema else []
    return pl.Trainer(
        max_steps=max_steps,
        max_epochs=-1,
        precision=precision,
        default_root_dir=folder,
        logger=list(loggers),
        callbacks=[*own, *callbacks, Checkpoints(folder, checkpoint_every, monitor)],
        plugins=[AtomicCheckpoints()],
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


def fit(
    module: pl.LightningModule, data: pl.LightningDataModule, trainer: pl.Trainer, folder: str | Path, resume: str
) -> dict:
    """Train and return the record written to fit.json, which marks the fit as finished.

    resume 'auto' goes on from last.ckpt if there is one, 'never' begins anew. Raises ValueError, naming the knobs,
    when the memory does not suffice.
    """
    if resume not in ("auto", "never"):
        raise ValueError(f"resume must be auto or never, got {resume!r}")
    folder = Path(folder)
    last = folder / LAST
    if resume == "never" and trainer.is_global_zero:
        for stale in (last, folder / FINAL, folder / "fit.json", folder / "metrics.csv"):
            stale.unlink(missing_ok=True)
    begin = time.perf_counter()
    try:
        trainer.fit(module, datamodule=data, ckpt_path=str(last) if last.exists() else None)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            "out of memory while training: lower data.batch_size, data.patch or width (scripts/plan.py says what fits)"
        ) from error
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    record = {
        "steps": trainer.global_step,
        "seconds_since_start_or_resume": round(time.perf_counter() - begin, 1),
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "device": str(trainer.strategy.root_device),
        "peak_memory_gb": round(peak_memory_gb(trainer.strategy.root_device), 2),
        "metrics": metrics,
    }
    if trainer.is_global_zero:
        write_json(folder / "fit.json", record)
    return record


def load_weights(
    network: nn.Module, folder: str | Path, checkpoint: str = FINAL, prefix: str = "network."
) -> nn.Module:
    """Put a fit's weights into the network; `prefix` is the network's name inside its LightningModule."""
    state = torch.load(Path(folder) / checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    network.load_state_dict(
        {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    )
    return network.eval()


def start_from(network: nn.Module, source: str | Path) -> nn.Module:
    """Put the weights of a bundle or a finished fit into the network, to be trained further.

    Raises InputError where they belong to another network, or the bundle holds several.
    """
    if Path(source).is_dir():
        if not (Path(source) / FINAL).exists():
            raise InputError(f"{source}: not a finished fit")
        states = [torch.load(Path(source) / FINAL, map_location="cpu", weights_only=True)["state_dict"]]
        states = [{name.removeprefix("network."): value for name, value in states[0].items()}]
    else:
        states = [known.state_dict() for known in load_bundle(source).networks]
    own = {name: value.shape for name, value in network.state_dict().items()}
    found = {name: value.shape for name, value in states[0].items() if name in own}
    if len(states) > 1 or own != found:
        raise InputError(f"init={source} holds {'another network' if len(states) == 1 else 'several networks'}")
    network.load_state_dict({name: states[0][name] for name in own})
    return network


def use_cores(threads: int | None = None) -> int:
    """Let torch use `threads`, by default the cores that this process may run on; OMP_NUM_THREADS goes first."""
    if threads is None:
        threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
    torch.set_num_threads(threads)
    return threads


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory on the device or the host has run out."""
    text = str(error).lower()
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or any(
        words in text for words in ("out of memory", "can't allocate memory", "cannot allocate memory")
    )


def peak_memory_gb(device: torch.device) -> float:
    """Peak memory so far: of the device if it is a GPU, else of this process (GB = 1e9 bytes)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return peak_resident_bytes() / 1e9


def quiet() -> None:
    """Leave out what Lightning tells every time."""
    for name in ("pytorch_lightning", "lightning.pytorch", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in (
        ".*does not have many workers.*",
        ".*LeafSpec.*",
        ".*across ranks is zero.*",
        ".*Checkpoint directory.*exists.*",
        ".*Tensor Cores.*",
        ".*`srun` command is available.*",
    ):
        warnings.filterwarnings("ignore", message=text)
