"""Learn and judge one row of Table 1. Example: python train.py +experiment=hybrid

Several rows: python train.py -m +experiment=real,hybrid,hybrid_threshold seed=0,1,2. Rows that differ only in what
comes after the training share one fit. On a cluster: -m hydra/launcher=submitit_slurm hydra.launcher.partition=NAME
hydra.launcher.max_num_timeout=3; several GPUs: trainer=ddp trainer.devices=4.
"""

import math
import sys
from pathlib import Path

import pytorch_lightning as pl
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from batseg.command import command
from batseg.subvolumes import find_pairs
from batseg.training.fit import fit, load_weights, start_from, use_cores
from batseg.training.rows import check, judge, show, write_result
from batseg.training.runs import finished, fit_folder, key_of
from batseg.volumes import write_text


@command("train")
def main(cfg: DictConfig) -> float:
    """Mean Dice on the evaluation volumes (NaN if nothing is judged), for Hydra's sweepers to maximise."""
    name = cfg.name or experiment_name()
    if HydraConfig.get().mode == RunMode.MULTIRUN:  # Lightning starts further processes with this command line
        sys.argv[1:] = HydraConfig.get().overrides.task
    use_cores(cfg.threads)
    if cfg.sample is not None and cfg.campaign == cfg.sample.folder:
        instantiate(cfg.sample, _convert_="all")
    settings = resolved(cfg)
    segment = instantiate(cfg.segment, _convert_="all")
    pairs = find_pairs(cfg.evaluation, cfg.data.label_map, cfg.data.voxel_nm) if cfg.evaluation is not None else []
    check(pairs, segment)
    what = {part: settings[part] for part in ("module", "data", "trainer", "seed")}
    key = key_of(what if cfg.init is None else {**what, "init": settings["init"]})
    first_process = pl.utilities.rank_zero_only.rank in (0, None)
    with fit_folder(Path(cfg.runs) / "fits", name, key, alone=first_process) as folder:
        pl.seed_everything(cfg.seed, verbose=False)
        module = instantiate(cfg.module, _convert_="all")
        record = finished(folder) if cfg.resume == "auto" else None
        if record is None:
            write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(settings)))
            if cfg.init is not None:
                start_from(module.network, cfg.init)
            data = instantiate(cfg.data, _convert_="all")
            places = {"folder": str(folder), "_convert_": "all"}
            loggers = [instantiate(logger, **places) for logger in cfg.logger.values()]
            trainer = instantiate(cfg.trainer, loggers=loggers, description=f"train {name}", **places)
            record = fit(module, data, trainer, folder, cfg.resume)
    if not pairs or not first_process:
        return record["metrics"].get("validation/dice", math.nan)
    row = Path(cfg.runs) / "rows" / name / f"seed{cfg.seed}"
    network = load_weights(module.network, folder)
    postprocess = instantiate(cfg.postprocess, _convert_="all")
    result = judge(network, pairs, row, folder / "predictions", segment, postprocess)
    write_text(row / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(settings)))
    write_result(row, {"name": name, "seed": cfg.seed, "fit": str(folder), "training": record, **result})
    show(name, cfg.seed, result)
    return result["mean"]


def resolved(cfg: DictConfig) -> dict:
    """The configuration as plain values, all but how the sample campaign is made."""
    parts = {name: cfg[name] for name in cfg if name != "sample"}
    return {
        name: OmegaConf.to_container(part, resolve=True) if OmegaConf.is_config(part) else part
        for name, part in parts.items()
    }


def experiment_name() -> str:
    """The chosen experiments joined by '-': 'hybrid', 'hybrid-no_augmentation'; 'train' if there is none."""
    chosen = [text for text in HydraConfig.get().overrides.task if text.startswith("+experiment=")]
    names = chosen[-1].partition("=")[2].strip("[]").split(",") if chosen else ["train"]
    return "-".join(name.strip().split("/")[-1] for name in names)


if __name__ == "__main__":
    main()
