"""Multiruns on a real SLURM that the test starts, and beside it on one machine."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batseg.training.cluster import states

ROOT = Path(__file__).resolve().parents[2]


def test_a_job_that_squeue_has_forgotten_has_ended_and_a_requeued_one_has_not():
    listing = "12_0|COMPLETED\n12_1|REQUEUED\n12_2|PENDING\n"
    found = {job: state["State"] for job, state in states(listing, {"12_0", "12_1", "12_2", "12_3"}).items()}
    assert found == {"12_0": "COMPLETED", "12_1": "RUNNING", "12_2": "RUNNING", "12_3": "GONE"}


SLURM_CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={port}
SlurmdPort={next_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MailProg=/bin/true
SlurmdTimeout=60
InactiveLimit=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=20000 State=UNKNOWN
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def installed() -> bool:
    return all(shutil.which(name) for name in ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol"))


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """Environment of a private SLURM with one node of two cores: munged, slurmctld and slurmd in one folder."""
    if os.geteuid() != 0:
        pytest.skip("a SLURM for the test needs root")
    if not installed() and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-q"], capture_output=True)
        packages = ["slurm-wlm", "munge", "slurm-client"]
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *packages], capture_output=True)
    if not installed():
        pytest.skip("SLURM is not installed: apt-get install slurm-wlm munge slurm-client")
    folder = tmp_path_factory.mktemp("slurm")
    folder.parent.chmod(0o755)
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o755)
    (folder / "munge/munge.key").write_bytes(os.urandom(128))
    (folder / "munge/munge.key").chmod(0o600)
    host, port = socket.gethostname().split(".")[0], 16817 + os.getpid() % 1000
    conf = folder / "slurm.conf"
    conf.write_text(SLURM_CONF.format(host=host, port=port, next_port=port + 1000, folder=folder))
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    munge = [f"--{part}={folder}/munge/munge.{end}" for part, end in MUNGE.items()]
    commands = [
        ["munged", "--foreground", "--force", *munge],
        ["slurmctld", "-D", "-c", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf), "-N", host],
    ]
    with (folder / "daemons.log").open("w") as daemon_log:
        daemons = []
        for command in commands:
            daemons.append(subprocess.Popen(command, stdout=daemon_log, stderr=daemon_log, env=environment))
            time.sleep(1)
        try:
            deadline = time.time() + 60
            while "idle" not in slurm_says(environment, "sinfo", "-h", "-o", "%T"):
                assert time.time() < deadline, (folder / "daemons.log").read_text()
                time.sleep(0.5)
            yield environment
        finally:
            for daemon in daemons[::-1]:
                daemon.terminate()
                daemon.wait(20)


MUNGE = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}


def slurm_says(environment, *command: str) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout


def multirun(campaign, runs, launcher: str, *overrides: str) -> list[str]:
    """The command line of a multirun over seeds on the toy campaign."""
    arguments = ["-m", f"hydra/launcher={launcher}", "data=folder", "logger=csv", "width=1", "data.validation_share=0"]
    arguments += [f"images={campaign}/real/*/image.tif", f"labels={campaign}/real/*/labels.tif", f"runs={runs}"]
    arguments += ["data.patch=[8,16,16]", "segment.window=[8,16,16]", "data.workers=0", "trainer.accelerator=cpu"]
    truth = f"{campaign}/evaluation/a"
    arguments += ["name=toy", f"evaluation={{image: {truth}/image.tif, labels: {truth}/labels.tif}}", *overrides]
    return [sys.executable, "train.py", *arguments]


def task_of(environment, index: int, seconds: float = 180) -> int:
    """Process id of an array job's task, once it runs."""
    deadline = time.time() + seconds
    wanted = [
        f"SLURM_CONF={environment['SLURM_CONF']}".encode(),
        f"SLURM_ARRAY_TASK_ID={index}".encode(),
        b"SLURM_PROCID=0",
    ]
    while time.time() < deadline:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command, variables = (process / "cmdline").read_bytes(), (process / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            is_task = b"submitit.core._submit" in command and b"srun" not in command
            if is_task and all(item in variables for item in wanted):
                return int(process.name)
        time.sleep(0.2)
    raise AssertionError(f"job {index} never ran")


@pytest.mark.slow
def test_on_slurm_a_killed_job_is_reported_a_preempted_one_requeued_and_the_others_finish(slurm, campaign, tmp_path):
    limits = ["hydra.launcher.partition=debug", "hydra.launcher.timeout_min=20", "hydra.launcher.cpus_per_task=1"]
    steps = ["trainer.max_steps=400", "trainer.checkpoint_every=20", "seed=0,1,2"]
    command = multirun(campaign, tmp_path, "submitit_slurm", *limits, *steps)
    environment = {**slurm, "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    os.kill(task_of(slurm, 1), signal.SIGKILL)
    task = task_of(slurm, 2)
    deadline = time.time() + 240
    while len(list(tmp_path.glob("fits/*/last.ckpt"))) < 2:
        assert time.time() < deadline
        time.sleep(0.1)
    os.kill(task, signal.SIGUSR2)  # as SLURM does before a job's time is over
    out, err = run.communicate(timeout=400)
    assert run.returncode == 2, err
    assert "_1: ended without a result (state FAILED): was it killed?" in err
    assert "_1 did not end well; run the same command again" in err.splitlines()[-1]
    assert sorted(path.parent.name for path in tmp_path.glob("rows/toy/*/result.json")) == ["seed0", "seed2"]
    assert "toy" in out.splitlines()[-1]
    assert "   2  " in out.splitlines()[-1]
    logs = "".join(path.read_text() for path in tmp_path.glob("multirun/*/.submitit/*/*_log.err"))
    assert "SIGUSR2: saved step" in logs


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["submitit_local", "joblib"])
def test_on_one_machine_jobs_run_side_by_side(campaign, tmp_path, launcher):
    command = multirun(campaign, tmp_path, launcher, "trainer.max_steps=3", "data.workers=1", "seed=0,1")
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=400
    )
    assert run.returncode == 0, run.stderr
    assert sorted(path.parent.name for path in tmp_path.glob("rows/toy/*/result.json")) == ["seed0", "seed1"]


@pytest.mark.slow
def test_two_processes_learn_what_one_would(campaign, tmp_path):
    """DDP with gloo: the same global batches, the same losses. Without batch norm, whose statistics are per process."""
    losses = {}
    for name, overrides in (("one", []), ("two", ["trainer=ddp", "trainer.devices=2"])):
        command = multirun(campaign, tmp_path / name, "basic", "trainer.max_steps=6", "model.norm=instance", "seed=0")
        command += ["trainer.log_every_n_steps=1", *overrides]
        run = subprocess.run(
            command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=400
        )
        assert run.returncode == 0, run.stderr
        rows = next(tmp_path.glob(f"{name}/fits/*/metrics.csv")).read_text().splitlines()
        losses[name] = [float(row.split(",")[rows[0].split(",").index("train/loss")]) for row in rows[1:]]
    assert len(losses["one"]) == 6
    assert losses["two"] == pytest.approx(losses["one"], rel=2e-3)
    assert losses["two"][0] == pytest.approx(losses["one"][0], rel=1e-5)
