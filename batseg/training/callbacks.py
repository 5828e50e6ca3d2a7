"""What happens around the training steps: checkpoints, averaged weights, progress, timing, requeueing."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from batseg.progress import progress_bar
from batseg.training.cluster import under_submitit
from batseg.volumes import replacing

LAST, BEST, FINAL = "last.ckpt", "best.ckpt", "final.ckpt"


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints written whole or not at all (beside their place, then renamed) and read with weights_only=True."""

    def save_checkpoint(self, checkpoint, path, storage_options=None) -> None:
        with replacing(path) as draft, draft.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())

    def load_checkpoint(self, path, map_location=None, weights_only=True):
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)


class Checkpoints(Checkpoint):
    """Saves `last.ckpt` every `every_n_steps` steps and at the end of each epoch, and `best.ckpt` if told what is best.

    Always within on_train_batch_end, so that there is one kind of checkpoint to resume from.
    monitor : logged number to maximise ('validation/dice'), or None.
    """

    def __init__(self, folder: str | Path, every_n_steps: int = 100, monitor: str | None = None):
        if every_n_steps < 1:
            raise ValueError(f"trainer.checkpoint_every must be 1 or more, got {every_n_steps}")
        self.folder, self.every_n_steps, self.monitor = Path(folder), every_n_steps, monitor
        self.best = float("-inf")
        self.saved_step = -1

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        step = trainer.global_step
        last_of_epoch = batch_index + 1 == trainer.num_training_batches
        if step % self.every_n_steps == 0 or last_of_epoch:
            self.save(trainer)

    def save(self, trainer) -> None:
        if trainer.global_step != self.saved_step:
            self.saved_step = trainer.global_step
            trainer.save_checkpoint(self.folder / LAST)

    def on_validation_end(self, trainer, module) -> None:
        if trainer.sanity_checking or self.monitor is None:
            return
        value = float(trainer.callback_metrics[self.monitor])
        if value > self.best:
            self.best = value
            trainer.save_checkpoint(self.folder / BEST, weights_only=True)

    def on_train_end(self, trainer, module) -> None:
        trainer.save_checkpoint(self.folder / FINAL, weights_only=True)

    def state_dict(self) -> dict:
        return {"best": self.best}

    def load_state_dict(self, state: Mapping) -> None:
        self.best = state["best"]


class RandomState(Callback):
    """Carries torch's random state through a checkpoint, for networks with dropout."""

    def __init__(self):
        self.restored: torch.Tensor | None = None

    def state_dict(self) -> dict:
        return {"cpu": torch.get_rng_state()}

    def load_state_dict(self, state: Mapping) -> None:
        self.restored = state["cpu"]

    def on_train_start(self, trainer, module) -> None:
        if self.restored is not None:
            torch.set_rng_state(self.restored.cpu())


class TrainingProgress(Callback):
    """One bar over all steps, with ETA."""

    def __init__(self, description: str = "train"):
        self.description = description
        self.stack = ExitStack()
        self.bar = None

    def on_train_start(self, trainer, module) -> None:
        if not trainer.is_global_zero:
            return
        total = trainer.max_steps if trainer.max_steps > 0 else int(trainer.estimated_stepping_batches)
        self.bar = self.stack.enter_context(progress_bar(self.description, total))
        self.shown = trainer.global_step
        if self.shown:
            self.bar.advance(self.shown)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        if self.bar is not None:
            self.bar.advance(trainer.global_step - self.shown)  # several a batch with several optimizers
            self.shown = trainer.global_step

    def on_train_end(self, trainer, module) -> None:
        self.stack.close()

    def on_exception(self, trainer, module, exception) -> None:
        self.stack.close()


class StepTime(Callback):
    """Logs `time/step_s`, wall seconds per step since the start or the resumption, validation left out."""

    def on_train_start(self, trainer, module) -> None:
        self.steps, self.excluded, self.start = 0, 0.0, time.perf_counter()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        self.steps += 1
        module.log("time/step_s", (time.perf_counter() - self.start - self.excluded) / self.steps)

    def on_validation_start(self, trainer, module) -> None:
        self.begin = time.perf_counter()

    def on_validation_end(self, trainer, module) -> None:
        self.excluded += time.perf_counter() - self.begin


class AveragedWeights(Callback):
    """Exponential moving average of the network's weights and statistics; validated and kept in place of the last.

    average <- decay * average + (1 - decay) * weights, with a smaller decay in the first steps, (1 + t) / (10 + t).
    """

    def __init__(self, decay: float = 0.999):
        if not 0 < decay < 1:
            raise ValueError(f"trainer.ema must lie between 0 and 1, got {decay}")
        self.decay = decay
        self.average: dict[str, torch.Tensor] | None = None
        self.steps = 0

    @torch.no_grad()
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        current = module.state_dict()
        if self.average is None:
            self.average = {name: value.clone() for name, value in current.items()}
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, value in current.items():
            average = self.average[name] = self.average[name].to(value.device)
            if value.is_floating_point():
                average.lerp_(value, 1 - decay)
            else:
                average.copy_(value)

    def exchange(self, module: pl.LightningModule) -> None:
        """Swap the module's weights and the average."""
        if self.average is None:
            return
        current = {name: value.clone() for name, value in module.state_dict().items()}
        module.load_state_dict(self.average)
        self.average = current

    def on_validation_start(self, trainer, module) -> None:
        self.exchange(module)

    def on_validation_end(self, trainer, module) -> None:
        self.exchange(module)

    def on_train_end(self, trainer, module) -> None:
        self.exchange(module)

    def state_dict(self) -> dict:
        return {"average": self.average, "steps": self.steps}

    def load_state_dict(self, state: Mapping) -> None:
        self.average, self.steps = state["average"], state["steps"]


class Preemption(Callback):
    """On SIGTERM or SIGUSR2: save `last.ckpt` after the running step, then stop; under SLURM, USR2 requeues the job.

    submitit announces the end of a job's time by USR2, before which SLURM may send SIGTERM: in its jobs SIGTERM saves
    only, and USR2 is passed on to submitit, which requeues.
    """

    def __init__(self):
        self.received: int | None = None
        self.previous: dict[int, object] = {}

    def on_train_start(self, trainer, module) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGUSR2):
                self.previous[number] = signal.signal(number, self.receive)

    def receive(self, number: int, _frame) -> None:
        self.received = number

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index) -> None:
        if self.received is None:
            return
        saver = next(callback for callback in trainer.callbacks if isinstance(callback, Checkpoints))
        saver.save(trainer)
        number, self.received = self.received, None
        name = signal.Signals(number).name
        print(f"{name}: saved step {trainer.global_step}; resume=auto goes on from there", file=sys.stderr, flush=True)
        if under_submitit() and number == signal.SIGTERM:
            return
        handler = self.previous[number]
        self.restore()
        if under_submitit() and callable(handler):
            handler(number, None)
        elif number == signal.SIGUSR2 and "SLURM_JOB_ID" in os.environ:
            subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]], check=False)
        raise SystemExit(128 + number)

    def restore(self) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)
        self.previous = {}

    def on_train_end(self, trainer, module) -> None:
        self.restore()

    def on_exception(self, trainer, module, exception) -> None:
        self.restore()
