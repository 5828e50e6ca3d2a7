"""Give basic structures the style that a fit has learnt.

Example: python scripts/stylize.py fit=runs/fits/style-1a2b3c structures=runs/structures out=runs/stylized
"""

from hydra.utils import instantiate

from batseg.command import command
from batseg.training.fit import use_cores
from batseg.training.style import load_generator
from batseg.training.stylizing import stylize_folders


@command("stylize")
def main(cfg):
    use_cores(cfg.threads)
    settings = instantiate(cfg, _convert_="all")
    keys = ("structures", "out", "seed", "fractions", "min_island", "axes", "label_map", "voxel_nm")
    for folder in stylize_folders(load_generator(cfg.fit), *(settings[key] for key in keys), origin=str(cfg.fit)):
        print(folder)


if __name__ == "__main__":
    main()
