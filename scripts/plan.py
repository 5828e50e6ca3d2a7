"""Which patch, width and batch fit into the memory, and how long an epoch takes: measured here, not guessed.

Example: python scripts/plan.py memory_gb=8 'widths=[8,16]'
"""

from omegaconf import DictConfig, OmegaConf

from batseg.command import command
from batseg.progress import progress_bar
from batseg.training.plan import Cost, available_gb, plan
from batseg.volumes import write_text


@command("plan")
def main(cfg: DictConfig) -> None:
    settings = OmegaConf.to_container(cfg, resolve=True)
    limit = cfg.memory_gb or available_gb(cfg.accelerator)
    choices = [settings[name] for name in ("patches", "widths", "batch_sizes")]
    count = len(choices[0]) * len(choices[1]) * len(choices[2])
    with progress_bar("measuring training steps", count) as bar:
        costs = plan(settings["model"], *choices, limit, cfg.steps, cfg.accelerator, lambda cost: bar.advance())
    print(f"limit {limit:.1f} GB; an epoch is {cfg.patches_per_epoch} patches")
    print(f"{'patch':>14s} {'width':>5s} {'batch':>5s} {'GB':>7s}  {'fits':4s} {'s/step':>7s} {'min/epoch':>9s}")
    rows = ["patch,width,batch_size,memory_gb,measured,fits,step_s,epoch_min"]
    for cost in costs:
        patch, memory, fits, step, epoch = described(cost, limit, cfg.patches_per_epoch)
        print(f"{patch:>14s} {cost.width:5d} {cost.batch_size:5d} {memory:>7s}  {fits:4s} {step:>7s} {epoch:>9s}")
        cells = (patch, cost.width, cost.batch_size, memory.strip("~"), cost.measured, fits, step, epoch)
        rows.append(",".join(map(str, cells)))
    if cfg.out is not None:
        write_text(cfg.out, "\n".join(rows) + "\n")


def described(cost: Cost, limit: float, patches_per_epoch: int) -> tuple[str, str, str, str, str]:
    """Patch, memory ('~' if extrapolated), whether it fits, seconds per step and minutes per epoch, as text."""
    patch = "x".join(map(str, cost.patch))
    memory = "" if cost.memory_gb is None else f"{'' if cost.measured else '~'}{cost.memory_gb:.2f}"
    fits = "yes" if cost.memory_gb is not None and cost.memory_gb <= limit else "no"
    if cost.step_s is None:
        return patch, memory, fits, "", ""
    return patch, memory, fits, f"{cost.step_s:.3f}", f"{cost.step_s * patches_per_epoch / cost.batch_size / 60:.1f}"


if __name__ == "__main__":
    main()
