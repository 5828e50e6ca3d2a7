"""Every configuration composes; bad configurations end in one line and exit code 2."""

import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from batseg.command import CONF, one_line

ROOT = CONF.parent
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
EXPERIMENTS = sorted(
    str(file.relative_to(CONF / "experiment").with_suffix("")) for file in (CONF / "experiment").rglob("*.yaml")
)


def composed(entry: str, overrides: list[str] | None = None):
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        return compose(entry, overrides or [])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_states_its_question(name):
    overrides = [f"+experiment={name}"] if "/" not in name else [f"+experiment=[hybrid,{name}]"]
    cfg = composed("train", overrides)
    assert OmegaConf.to_container(cfg, resolve=False)
    first = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()
    questions = [line for line in first[:2] if line.startswith("#") and not line.startswith("# @package")]
    assert questions, f"experiment/{name}.yaml must begin with the question it asks"


@pytest.mark.parametrize("script", [file for file in SCRIPTS if f'@command("{file.stem}")' in file.read_text()])
def test_every_script_has_a_config_that_composes(script):
    cfg = composed(script.stem)
    assert "seed" in cfg


def test_every_command_reads_a_config_that_exists():
    for script in [*SCRIPTS, ROOT / "train.py"]:
        text = script.read_text()
        if "@command(" in text:
            name = text.split('@command("')[1].split('"')[0]
            assert (CONF / f"{name}.yaml").exists(), f"{script.name} names conf/{name}.yaml"


@pytest.mark.parametrize("scale", ["laptop", "workstation", "paper"])
def test_every_scale_composes(scale):
    assert composed("train", ["+experiment=hybrid", f"scale={scale}"])


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["+experiment=hybird"], "hybird"),
        (["+experiment=hybrid", "optimzer.lr=1"], "optimzer"),
        (["+experiment=hybrid", "model.widht=4"], "widht"),
        (["+experiment=hybrid", "seed={"], "{"),
    ],
)
def test_a_bad_override_ends_in_one_line_that_names_it(arguments, expected):
    result = run("train.py", *arguments)
    assert result.returncode == 2
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert expected in lines[0]


def test_the_line_shows_the_root_cause():
    error = InstantiationException("Error in call to target 'a.B':\nfull_key: data")
    error.__cause__ = FileNotFoundError(2, "No such file or directory", "x.tif")
    assert one_line(error) == "No such file or directory: x.tif"


def test_paths_in_configs_belong_to_no_machine():
    for file in CONF.rglob("*.yaml"):
        assert not any(part in file.read_text() for part in ("/home/", "/root/", "/work" + "/")), file
