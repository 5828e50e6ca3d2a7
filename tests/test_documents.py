"""Documents: every relative link leads somewhere, every command of the README names a file that exists."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TRACKED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True).stdout.split()
PAGES = [ROOT / name for name in TRACKED if (ROOT / name).exists()] or sorted(
    file for file in ROOT.rglob("*.md") if not {".venv", "runs"} & set(file.parts)
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    local = [link for link in links if not re.match(r"[a-z]+:", link)]
    missing = [link for link in local if not (page.parent / link).exists()]
    assert not missing, f"{page.name}: {', '.join(missing)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_scripts_and_experiments_named_in_commands_exist(page):
    text = page.read_text()
    for script in set(re.findall(r"python ((?:scripts/|experiments/\w+/)?\w+\.py)", text)):
        assert (ROOT / script).exists() or (page.parent / script).exists(), f"{page.name} names {script}"
    for names in re.findall(r"\+experiment=\[?([\w/,]+)", text):
        for name in names.strip(",").split(","):
            if name.endswith("/"):  # 'ablation/...': any of that folder
                assert (ROOT / "conf/experiment" / name).is_dir()
                continue
            assert (ROOT / "conf/experiment" / f"{name}.yaml").exists(), f"{page.name} names experiment {name}"
