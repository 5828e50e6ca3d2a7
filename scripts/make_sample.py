"""Make the simulated sample campaign that the demo learns from. Example: python scripts/make_sample.py"""

from hydra.utils import instantiate

from batseg.command import command


@command("make_sample")
def main(cfg):
    print(instantiate(cfg.sample, _convert_="all"))


if __name__ == "__main__":
    main()
