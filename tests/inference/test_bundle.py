import numpy as np
import pytest
import torch

from batseg.inference.bundle import load_bundle, save_bundle
from batseg.inference.calibration import Calibration
from batseg.networks.unet3d import UNet3D
from batseg.volumes import InputError

NETWORK = {"_target_": "batseg.networks.unet3d.UNet3D", "width": 2}
LOOKING = {"window": [8, 16, 16], "windows": "planes"}
CALIBRATION = Calibration(1.5, (0.0, 0.1, -0.2, -0.7))


def trained(seed=0, width=2):
    torch.manual_seed(seed)
    network = UNet3D(width=width)
    network(torch.randn(2, 1, 8, 16, 16))  # moves the running statistics
    return network.eval()


def test_a_bundle_gives_back_the_network_within_half_precision_and_the_rest_as_it_was(tmp_path):
    network = trained()
    familiar = [{"histogram": [0.5, 0.5], "spectrum": [0.0], "blur": 0.2, "voxel_nm": 61.0}]
    post = {"_target_": "batseg.postprocessing.GreyThreshold", "clusters": 5}
    save_bundle(
        tmp_path / "b.pt", [network.state_dict()], NETWORK, LOOKING, CALIBRATION, 61.0, post, familiar, {"note": "n"}
    )
    bundle = load_bundle(tmp_path / "b.pt")
    image = torch.randn(1, 1, 8, 16, 16)
    with torch.no_grad():
        assert torch.allclose(bundle.networks[0](image), network(image), atol=0.02)
    assert (bundle.looking, bundle.calibration, bundle.voxel_nm) == (LOOKING, CALIBRATION, 61.0)
    assert bundle.postprocess.clusters == 5
    assert bundle.familiar == familiar
    assert bundle.provenance["note"] == "n"
    assert bundle.label_map == {0: "pore", 1: "graphite", 2: "silicon", 3: "cbd"}


def test_two_and_a_half_million_weights_take_at_most_six_megabytes(tmp_path):
    network = UNet3D(width=8)
    assert 2.0e6 < sum(weight.numel() for weight in network.parameters()) < 2.5e6
    path = save_bundle(tmp_path / "b.pt", [network.state_dict()], {**NETWORK, "width": 8}, LOOKING)
    assert path.stat().st_size * 2.5e6 / sum(weight.numel() for weight in network.parameters()) <= 6e6


def test_an_ensemble_is_kept_in_one_file(tmp_path):
    states = [trained(seed).state_dict() for seed in (0, 1)]
    one, two = load_bundle(save_bundle(tmp_path / "b.pt", states, NETWORK, LOOKING)).networks
    assert not torch.equal(one.head[0].weight, two.head[0].weight)


def test_a_bundle_that_names_other_code_is_refused(tmp_path):
    path = save_bundle(tmp_path / "b.pt", [], {"_target_": "os.system"}, LOOKING)
    with pytest.raises(InputError, match=r"os\.system"):
        load_bundle(path)
    path = save_bundle(tmp_path / "b.pt", [], NETWORK, LOOKING, postprocess={"_target_": "os.system"})
    with pytest.raises(InputError, match=r"os\.system"):
        load_bundle(path)


@pytest.mark.parametrize("content", [b"", b"no bundle", None])
def test_a_file_that_is_no_bundle_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "b.pt"
    if content is None:
        torch.save({"weights": np.zeros(1).tolist()}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match="not a bundle") as caught:
        load_bundle(path)
    assert "\n" not in str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path):
    path = save_bundle(tmp_path / "b.pt", [trained(width=3).state_dict()], NETWORK, LOOKING)
    with pytest.raises(InputError, match="do not fit"):
        load_bundle(path)
