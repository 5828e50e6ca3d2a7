"""Generate artificial electrodes. Example: python scripts/generate_structures.py out=structures count=4 shape=128"""

import hydra

from batseg.command import command
from batseg.progress import progress_bar
from batseg.structures.campaign import write_campaign


@command("generate_structures")
def main(cfg):
    cfg = hydra.utils.instantiate(cfg, _convert_="all")
    with progress_bar("generating structures", cfg["count"]) as bar:
        write_campaign(
            cfg["out"], cfg["structure"], cfg["count"], cfg["shape"], cfg["voxel_nm"], cfg["seed"], cfg["first"],
            cfg["name"], cfg["workers"], bar.advance,
        )  # fmt: skip


if __name__ == "__main__":
    main()
