"""The whole story on a small campaign: sample data, style transfer, the rows of Table 1, baselines, one HTML report.

Example: python scripts/demo.py (or make demo). What is there already is reused; the last line printed is the page.
"""

import subprocess
import sys
from pathlib import Path

from batseg.command import command

ROOT = Path(__file__).resolve().parent.parent
NOTE = (
    "Everything on this page is simulated, the 'real' volumes too: they come from another structure recipe and other "
    "scan conditions than the synthetic ones, and stand in for measured tomograms."
)


def run(*arguments: str) -> None:
    """Run an entry point of the project; its progress shows on standard error. Ends the demo where it fails."""
    print(f"\n$ python {' '.join(arguments)}", file=sys.stderr, flush=True)
    code = subprocess.run([sys.executable, *arguments], cwd=ROOT, stdout=sys.stderr).returncode
    if code:
        raise SystemExit(code)


@command("demo")
def main(cfg):
    rows = ",".join(cfg.rows)
    run("train.py", "-m", f"+experiment={rows}", f"runs={cfg.runs}", *cfg.overrides)
    page = Path(cfg.runs) / "demo" / "index.html"
    make = ["scripts/make_report.py", f"rows=[{rows}]", f"runs={cfg.runs}", f"out={page}", "title=batseg demo: Table 1"]
    run(*make, f'note="{NOTE}"', "command=make demo")
    print((ROOT / page).with_name("table.md").read_text())
    print(page)


if __name__ == "__main__":
    main()
