"""Multiruns on one machine or a cluster: a job that was killed is reported, the others finish, the table comes last."""

import logging
import math
import os
import subprocess
import sys
from pathlib import Path

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from batseg.training.rows import show_summary

log = logging.getLogger(__name__)

ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "GONE"}
"""States of SLURM jobs that will not run again; all others are waited for, those of requeued jobs too."""


class Multirun(Callback):
    """Hydra callback around `-m`: makes submitit report jobs instead of waiting for ever, then prints the table.

    Ends the program with exit code 2, after all jobs have ended, if some of them failed.
    """

    def __init__(self):
        self.failed: list[str] = []

    def on_multirun_start(self, config: DictConfig, **_kwargs) -> None:
        launcher = str(config.hydra.launcher.get("_target_", ""))
        if "submitit" in launcher:
            self.watch(slurm="Slurm" in launcher)

    def watch(self, slurm: bool) -> None:
        """Have submitit ask squeue, which needs no accounting, and report failed jobs on standard error."""
        from submitit.core.core import Job
        from submitit.core.utils import FailedJobError, UncompletedJobError

        if slurm:
            watch_with_squeue()
        original = Job.results

        def results(job: Job) -> list[JobReturn]:
            try:
                outcome = original(job)[0]
                word = str(outcome._return_value) if outcome.status == JobStatus.FAILED else None
            except (UncompletedJobError, FailedJobError):
                word = f"ended without a result (state {job.state}): was it killed?"
            if word is None:
                return [outcome]
            self.failed.append(job.job_id)
            print(f"job {job.job_id}: {word} (log: {job.paths.stderr})", file=sys.stderr, flush=True)
            return [JobReturn(_return_value=math.nan, status=JobStatus.COMPLETED)]

        Job.results = results

    def on_multirun_end(self, config: DictConfig, **_kwargs) -> None:
        show_summary(Path(config.runs) / "rows")
        if self.failed:
            print(
                f"train: jobs {', '.join(self.failed)} did not end well; run the same command again: it goes on",
                file=sys.stderr,
            )
            raise SystemExit(2)  # Hydra turns any other exception of a callback into a warning


def watch_with_squeue() -> None:
    """Let submitit learn the states of its jobs from squeue: sacct needs accounting, which many clusters lack."""
    from submitit.slurm.slurm import SlurmInfoWatcher, SlurmJob

    class Squeue(SlurmInfoWatcher):
        def update(self) -> None:
            found = subprocess.run(
                ["squeue", "--me", "-h", "-r", "-t", "all", "-o", "%i|%T"], capture_output=True, text=True
            )
            if found.returncode == 0:
                self._info_dict.update(states(found.stdout, self._registered))
            super().update()

        def _make_command(self) -> None:
            return None

    SlurmJob.watcher = Squeue(delay_s=20)


def states(listing: str, jobs: set[str]) -> dict[str, dict[str, str]]:
    """{job: {"State": ...}} from lines 'job|state'; a job no longer listed is GONE, others go on."""
    known = dict(line.strip().split("|")[:2] for line in listing.splitlines() if "|" in line)
    found = {job: known.get(job, "GONE") for job in jobs}
    return {job: {"State": state if state in ENDED else "RUNNING"} for job, state in found.items()}


def under_submitit() -> bool:
    """Whether this process is a job that submitit started, and so requeues."""
    return "SUBMITIT_EXECUTOR" in os.environ
