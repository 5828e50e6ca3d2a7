"""The network is the published one: parameter counts, receptive field, shapes, options."""

import pytest
import torch
from torch import nn

from batseg.networks.dynunet import dynunet
from batseg.networks.unet3d import UNet3D, count_parameters


def convolution(channels_in: int, channels_out: int, *kernel: int) -> int:
    """Weights of a convolution without bias and the scale and shift of its batch norm."""
    taps = kernel[0] * kernel[1] * kernel[2]
    return channels_in * channels_out * taps + 2 * channels_out


@pytest.mark.parametrize(("width", "millions"), [(32, 34.41), (16, 8.60)])
def test_the_thin_network_has_the_parameters_of_the_published_layer_table(width, millions):
    """ACDC unet3D_bn_modified, layer by layer at width 32; a transposed convolution has one tap on unpooled axes."""
    w = width
    encoder = [(1, w), (w, 2 * w), (2 * w, 2 * w), (2 * w, 4 * w), (4 * w, 4 * w), (4 * w, 8 * w)]
    encoder += [(8 * w, 8 * w), (8 * w, 16 * w)]
    decoder = [(24 * w, 8 * w), (8 * w, 8 * w), (12 * w, 4 * w), (4 * w, 4 * w), (6 * w, 2 * w), (2 * w, 2 * w)]
    expected = sum(convolution(*pair, 3, 3, 3) for pair in encoder + decoder)
    expected += convolution(16 * w, 16 * w, 4, 4, 4) + convolution(8 * w, 8 * w, 1, 4, 4)
    expected += convolution(4 * w, 4 * w, 1, 4, 4) + convolution(2 * w, 4, 1, 1, 1)
    found = count_parameters(UNet3D(width=width, pooling="thin"))
    assert found == expected
    assert found / 1e6 == pytest.approx(millions, abs=0.01)


def test_the_isotropic_network_adds_only_the_taps_along_the_thin_axis():
    """37.82 M as published, where the last transposed convolution is 4 x 4 x 2 by what seems a slip; 4 x 4 x 4 here."""
    published = 37_815_752
    assert count_parameters(UNet3D(width=32, pooling="isotropic")) == pytest.approx(published + 128**2 * 32, rel=1e-3)


def extent(pooling: str, axis: int, voxel: int) -> int:
    """Input voxels along an axis that one output voxel depends on: all weights alike, average for maximum pooling."""
    network = UNet3D(width=1, pooling=pooling).eval().double()
    network.pools = nn.ModuleList(nn.AvgPool3d(pool.kernel_size) for pool in network.pools)
    for parameter in network.parameters():
        nn.init.constant_(parameter, 1e-2)
    shape = [8, 8, 8]
    shape[axis] = 128
    image = torch.ones(1, 1, *shape, dtype=torch.float64, requires_grad=True)
    network(image).movedim(axis + 2, 0)[voxel].sum().backward()
    reached = image.grad[0, 0].movedim(axis, 0).flatten(1).abs().sum(1) > 0
    return int(reached.sum())


def test_the_thin_network_sees_36_voxels_along_the_thin_axis_and_108_to_116_in_plane():
    """38 as published: its two transposed convolutions with two taps along an unpooled axis add one voxel each."""
    assert {extent("thin", 0, voxel) for voxel in range(60, 64)} == {38 - 2}
    assert {extent("thin", 2, voxel) for voxel in range(60, 68)} <= set(range(108, 117))


def test_the_isotropic_network_sees_108_to_116_voxels_along_every_axis():
    found = {extent("isotropic", 0, voxel) for voxel in range(60, 68)}
    assert found <= set(range(108, 117))


@pytest.mark.parametrize("pooling", ["thin", "isotropic"])
@pytest.mark.parametrize("norm", ["batch", "batch_fast", "instance"])
@pytest.mark.parametrize("residual", [False, True])
def test_logits_have_the_image_grid_and_every_parameter_learns(pooling, norm, residual):
    network = UNet3D(2, 4, width=2, pooling=pooling, norm=norm, residual=residual)
    logits = network(torch.randn(2, 2, 16, 16, 24))
    assert logits.shape == (2, 4, 16, 16, 24)
    (logits * torch.randn_like(logits)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_deep_supervision_gives_three_outputs_in_training_and_one_after():
    network = UNet3D(width=2, deep_supervision=True)
    image = torch.randn(2, 1, 8, 16, 16)
    assert [tuple(output.shape[2:]) for output in network(image)] == [(8, 16, 16), (8, 8, 8), (8, 4, 4)]
    assert network.eval()(image).shape == (2, 4, 8, 16, 16)


def test_a_patch_that_the_poolings_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"\(8, 20, 16\) must be a multiple of \(2, 8, 8\)"):
        UNet3D(width=1)(torch.randn(1, 1, 8, 20, 16))


@pytest.mark.parametrize("wrong", [{"pooling": "none"}, {"norm": "layer"}, {"width": 0}])
def test_an_unknown_option_is_refused(wrong):
    with pytest.raises(ValueError, match="UNet3D"):
        UNet3D(**wrong)


def test_the_paper_patch_passes_on_the_meta_device():
    """48 x 256 x 256 at the published width, without memory."""
    with torch.device("meta"):
        logits = UNet3D(width=32)(torch.empty(1, 1, 48, 256, 256))
    assert logits.shape == (1, 4, 48, 256, 256)


def test_signals_keep_their_size_through_the_untrained_network():
    """He initialisation: no layer makes activations vanish or explode."""
    torch.manual_seed(0)
    network = UNet3D(width=8)
    sizes = []
    for layer in network.modules():
        if isinstance(layer, (nn.Conv3d, nn.ConvTranspose3d)):
            layer.register_forward_hook(lambda _layer, _inputs, output: sizes.append(output.std().item()))
    network(torch.randn(2, 1, 16, 32, 32))
    assert 0.3 < min(sizes) < max(sizes) < 4


@pytest.mark.parametrize("pooling", ["thin", "isotropic"])
def test_dynunet_fits_the_same_places(pooling):
    image = torch.randn(1, 1, 16, 16, 16)
    network = dynunet(width=2, pooling=pooling, deep_supervision=True)
    assert network(image).shape == (1, 3, 4, 16, 16, 16)
    assert network.eval()(image).shape == (1, 4, 16, 16, 16)
