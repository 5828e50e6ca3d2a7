"""Segment a tomogram with what people use instead of a network (paper, Fig. 2).

Example: python scripts/baselines.py image=image.tif out=runs/fig2 'run=[kmeans,random_walker]'
"""

from pathlib import Path

import numpy as np
from hydra.utils import instantiate

from batseg.baselines import RandomForest
from batseg.command import command
from batseg.greyvalues import grey_histogram, kmeans_grey, quantile_range
from batseg.normalisation import sample_mask
from batseg.report.comparison import baseline_figure
from batseg.report.figures import save_figure
from batseg.volumes import Volume, open_volume, read_image, read_labels, read_volume, require_same_shape, write_volume


def trained(forest: RandomForest, scans, label_map) -> RandomForest:
    """The forest, trained on scans whose labels may cover a range of slices only (the sidecar's slice_range)."""
    if not scans:
        raise ValueError("random_forest needs training='[{image: a.tif, labels: b.tif}]'")
    pairs = []
    for scan in scans:
        image, labels = read_image(scan["image"]).array, read_labels(scan["labels"], label_map).array
        if len(image) != len(labels):
            first, last = open_volume(scan["labels"]).provenance.get("slice_range", (0, len(image)))
            image = image[first:last]
        pairs.append((image, labels))
    return forest.fit(pairs)


@command("baselines")
def main(cfg):
    unknown = [name for name in cfg.run if name not in cfg.methods]
    if unknown:
        raise ValueError(f"run names unknown methods {', '.join(unknown)}; known are {', '.join(cfg.methods)}")
    methods = {name: instantiate(cfg.methods[name], _convert_="all") for name in cfg.run}
    image = read_image(cfg.image, cfg.voxel_nm)
    mask = sample_mask(image.array) if cfg.mask is None else read_volume(cfg.mask).array != 0
    require_same_shape(image=image, mask=mask)
    out, labels = Path(cfg.out), {}
    for name, method in methods.items():
        if isinstance(method, RandomForest):
            method = trained(method, cfg.training, cfg.label_map)
        labels[name] = method(image.array, mask)
        provenance = {"image": str(cfg.image), "method": name, "made_by": "scripts/baselines.py"}
        print(write_volume(out / f"{name}.tif", Volume(labels[name], image.voxel_nm, provenance)))
    z = len(mask) // 2 if cfg.slice is None else cfg.slice
    shown = {name: volume[z] for name, volume in labels.items()}
    if cfg.truth is not None:
        truth = read_labels(cfg.truth, cfg.label_map)
        require_same_shape(image=image, truth=truth)
        shown = {"truth": truth.array[z]} | shown
    clusters = kmeans_grey(image.array, mask=mask)
    figure = baseline_figure(
        np.where(mask[z], image.array[z], np.median(image.array[mask])),
        shown,
        grey_histogram(image.array, *quantile_range(image.array, mask), bins=160, mask=mask),
        clusters.centres,
        clusters.boundaries,
    )
    print(save_figure(figure, out / "fig2"))


if __name__ == "__main__":
    main()
