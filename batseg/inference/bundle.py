"""One file that holds everything needed to segment a tomogram on a new machine.

Weights (float16; statistics and biases float32), the network's configuration, how it looks at a volume, label map,
voxel size, calibration, post-processing, what its training tomograms look like, and provenance. Plain tensors, numbers
and text: it loads with `torch.load(weights_only=True)`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import torch
from hydra.utils import instantiate
from torch import nn

from batseg.inference.calibration import UNCHANGED, Calibration
from batseg.phases import PHASES
from batseg.volumes import InputError, replacing

FORMAT = "batseg bundle 1"
KEYS = {"weights", "network", "looking", "temperature", "voxel_nm", "normalisation", "label_map", "postprocess"}
KEYS |= {"offsets", "familiar", "reconstruction", "provenance"}
ALLOWED = {"network": "batseg.networks.", "postprocess": "batseg.postprocessing."}
"""A bundle may come from elsewhere: it names no other code than this."""


@dataclass(frozen=True)
class Bundle:
    """A trained network and what belongs to it; `networks` are ready for inference."""

    networks: list[nn.Module]
    looking: Mapping
    calibration: Calibration
    voxel_nm: float | None
    postprocess: Callable
    familiar: Sequence[Mapping]
    provenance: Mapping
    reconstruction: Sequence[Mapping] = ({},)
    digest: str = ""
    normalisation: str = "robust"
    label_map: Mapping[int, str] = field(default_factory=lambda: dict(enumerate(PHASES)))


def save_bundle(
    path: str | Path,
    weights: Sequence[Mapping[str, torch.Tensor]],
    network: Mapping,
    looking: Mapping,
    calibration: Calibration = UNCHANGED,
    voxel_nm: float | None = None,
    postprocess: Mapping | None = None,
    familiar: Sequence[Mapping] = (),
    provenance: Mapping | None = None,
    reconstruction: Sequence[Mapping] = ({},),
) -> Path:
    """Write a bundle of one network or an ensemble.

    network : its configuration, with `_target_`; all weights belong to the same one.
    looking : keywords of `batseg.inference.streaming.Looking`.
    familiar : descriptors of the training tomograms, from `batseg.inference.familiarity`.
    reconstruction : settings with which raw scans are reconstructed for this network, one mapping per channel.
    """
    content = {
        "format": FORMAT,
        "weights": [{name: _compact(tensor) for name, tensor in state.items()} for state in weights],
        "network": dict(network),
        "looking": dict(looking),
        "temperature": float(calibration.temperature),
        "offsets": list(map(float, calibration.offsets)),
        "voxel_nm": voxel_nm,
        "normalisation": "robust",
        "label_map": dict(enumerate(PHASES)),
        "postprocess": dict(postprocess or {"_target_": "batseg.postprocessing.Unchanged"}),
        "familiar": [dict(one) for one in familiar],
        "reconstruction": [dict(channel) for channel in reconstruction],
        "provenance": {"made": datetime.now(UTC).isoformat(timespec="seconds"), **(provenance or {})},
    }
    path = Path(path)
    with replacing(path) as draft:
        torch.save(content, draft)
    return path


def load_bundle(path: str | Path) -> Bundle:
    """Read a bundle. Raises InputError for a file that is none, or whose network this version cannot build."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"no such file: {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path}: not a bundle; scripts/make_bundle.py makes one") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT or KEYS - set(content):
        raise InputError(f"{path}: not a bundle of this version ({FORMAT}); make one with scripts/make_bundle.py")
    for part, allowed in ALLOWED.items():
        target = str(content[part].get("_target_", ""))
        if not target.startswith(allowed):
            raise InputError(f"{path}: {part} {target!r} is not one of {allowed}")
    networks = []
    for state in content["weights"]:
        network = instantiate(content["network"], _convert_="all").eval()
        try:
            network.load_state_dict(
                {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
            )
        except RuntimeError as error:
            raise InputError(f"{path}: weights and network do not fit ({str(error).splitlines()[0]})") from error
        networks.append(network)
    return Bundle(
        networks,
        content["looking"],
        Calibration(content["temperature"], tuple(content["offsets"])),
        content["voxel_nm"],
        instantiate(content["postprocess"]),
        content["familiar"],
        content["provenance"],
        content["reconstruction"],
        hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest(),
        content["normalisation"],
        content["label_map"],
    )


def _compact(tensor: torch.Tensor) -> torch.Tensor:
    """Weights in half precision; what is one-dimensional (biases, statistics) as it is."""
    tensor = tensor.detach().cpu()
    return tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor.clone()
