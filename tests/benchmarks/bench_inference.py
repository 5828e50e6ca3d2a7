"""Segmentation against MONAI's sliding window: same network, same windows, same machine, three directions.

The edge is 128 unless BATSEG_BENCH_EDGE says otherwise (256: MONAI alone takes over 15 minutes on two cores). The
network (8 channels) is trained for a minute on blobs of four phases: rounding decides the labels of an untrained one.
"""

import os
from collections.abc import Iterator

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer
from scipy import ndimage

from batseg.evaluation import confusion_matrix, dice
from batseg.greyvalues import kmeans_grey
from batseg.inference import predict
from batseg.networks.unet3d import UNet3D
from tests.benchmarks import Row, seconds

EDGE = int(os.environ.get("BATSEG_BENCH_EDGE", "128"))
WINDOW = (16, 64, 64)
STEPS = 150


def blobs(edge: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A normalised image and its labels: nested random fields with edge enhancement and correlated noise."""
    rng = np.random.default_rng(seed)
    fields = [
        ndimage.gaussian_filter(rng.normal(size=(edge,) * 3).astype(np.float32), grain, mode="wrap")
        for grain in (6, 3, 2)
    ]
    labels = (fields[0] > np.quantile(fields[0], 0.62)).astype(np.uint8)
    labels[(labels == 0) & (fields[1] > np.quantile(fields[1], 0.9))] = 2
    labels[(labels == 0) & (fields[2] > np.quantile(fields[2], 0.9))] = 3
    image = ndimage.gaussian_filter(np.array([0, 0.6, 1.3, 1.9], np.float32)[labels], 1.0)
    image -= 0.8 * ndimage.gaussian_laplace(image, 1.2)
    image += ndimage.gaussian_filter(rng.normal(size=image.shape).astype(np.float32), 0.7)
    return (image - image.mean()) / image.std(), labels


def trained_network() -> torch.nn.Module:
    """An 8-channel U-Net after `STEPS` steps on crops of one volume of blobs."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    image, labels = blobs(96, 0)
    network = UNet3D(width=8, norm="batch_fast").to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(STEPS):
        corner = [rng.integers(0, 96 - edge + 1) for edge in (16, 48, 48)]
        place = tuple(slice(start, start + edge) for start, edge in zip(corner, (16, 48, 48)))
        order = rng.permutation(3)
        crop, truth = image.transpose(order)[place], labels.transpose(order)[place]
        logits = network(torch.from_numpy(crop.copy())[None, None].contiguous(memory_format=torch.channels_last_3d))
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(truth.astype(np.int64))[None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval().to(memory_format=torch.contiguous_format)


def with_monai(network: torch.nn.Module, image: np.ndarray) -> np.ndarray:
    """Labels by MONAI's inferer at its defaults but for the overlap, direction by direction."""
    inferer = SlidingWindowInferer(roi_size=WINDOW, overlap=0.5)
    total = 0
    with torch.inference_mode():
        for axis in range(3):
            order = [axis, *(other for other in range(3) if other != axis)]
            turned = torch.from_numpy(np.ascontiguousarray(image.transpose(order)))[None, None]
            softmax = inferer(turned, lambda windows: torch.softmax(network(windows), 1))[0]
            total = total + softmax.permute(0, *(1 + back for back in np.argsort(order).tolist()))
    return total.argmax(0).numpy()


def rows() -> Iterator[Row]:
    network = trained_network()
    image, truth = blobs(EDGE, 1)
    labels: dict[str, np.ndarray] = {}

    def run(name: str, **settings: object) -> float:
        def segment() -> None:
            labels[name] = predict(network, image, WINDOW, description=name, **settings).labels

        return seconds(segment)

    def keep_monai() -> None:
        labels["MONAI"] = with_monai(network, image)

    def agreement(name: str) -> str:
        change = np.abs(dice(confusion_matrix(truth, labels[name])) - dice(confusion_matrix(truth, labels["MONAI"])))
        same = (labels[name] == labels["MONAI"]).mean()
        return f"labels agree in {100 * same:.2f} %, Dice within {float(np.max(change)):.4f}"

    with_monai(network, image[:64, :64, :64])  # warm
    monai = seconds(keep_monai)
    work = f"segment {EDGE}^3, 3 directions, {'x'.join(map(str, WINDOW))}"
    ours = run("windows")
    yield Row(f"{work}, same windows", ours, "MONAI SlidingWindowInferer", monai, f"{agreement('windows')}; target 2x")
    ours = run("planes", windows="planes")
    yield Row(f"{work}, whole planes", ours, "MONAI SlidingWindowInferer", monai, f"{agreement('planes')}; target 5x")
    ours = run("fp32", precision="fp32")
    yield Row(f"{work}, same windows in fp32", ours, "MONAI SlidingWindowInferer", monai, agreement("fp32"))
    yield from threshold_rows()


def threshold_rows() -> Iterator[Row]:
    """k-means boundaries against scikit-learn's, which wants all grey values in one array."""
    from sklearn.cluster import KMeans

    image = blobs(192, 2)[0]
    found = kmeans_grey(image)

    def peer() -> np.ndarray:
        return np.sort(KMeans(4, n_init=1, random_state=0).fit(image.reshape(-1, 1)).cluster_centers_.ravel())

    theirs: list[np.ndarray] = []
    peer_s = seconds(lambda: theirs.append(peer()))
    apart = np.abs(found.centres - theirs[0]).max() / (found.centres[-1] - found.centres[0])
    note = f"centres within {100 * apart:.2f} % of the range; ours leaves out 0.1 % on either side"
    yield Row(
        "k-means of grey values, 192^3", seconds(lambda: kmeans_grey(image), 3), "scikit-learn KMeans", peer_s, note
    )
