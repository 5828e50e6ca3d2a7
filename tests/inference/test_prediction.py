import numpy as np
import pytest
import torch
from torch import nn

from batseg.inference import predict
from batseg.inference.forward import Forward
from batseg.inference.fusion import MeanSoftmax, ProductSoftmax, Vote
from batseg.volumes import InputError

FUSIONS = [MeanSoftmax(), MeanSoftmax(0.125), ProductSoftmax(), Vote()]


class Pointwise(nn.Module):
    """Logits from the grey value of each voxel alone: the same in every window and direction."""

    def forward(self, windows):
        return torch.cat([-((windows - centre) ** 2) for centre in range(4)], 1) * 4


def small_network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 4, 3, padding=1))


def grey(shape, seed=0):
    return np.random.default_rng(seed).normal(1.5, 1, shape).astype(np.float32)


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("windows", ["windows", "planes"])
def test_a_pointwise_network_gives_the_same_labels_however_it_is_windowed(fusion, windows):
    image = grey((19, 26, 33))
    prediction = predict(Pointwise(), image, (8, 16, 16), fusion=fusion, windows=windows)
    truth = np.abs(image[None] - np.arange(4).reshape(4, 1, 1, 1)).argmin(0)
    assert (prediction.labels == truth).all()
    assert np.allclose(prediction.probabilities.sum(0), 1, atol=1e-5)
    assert (prediction.disagreement == 0).all()


def brute_force(network, image, window, overlap=0.5):
    """Mean over directions of the mean softmax over windows, written out."""
    from batseg.inference.windows import axis_order, window_starts

    result = 0
    for direction in "zyx":
        order = axis_order(direction)
        turned = image.transpose(order)
        total = np.zeros((4, *turned.shape))
        count = np.zeros(turned.shape)
        for t in window_starts(turned.shape[0], window[0], overlap):
            for a in window_starts(turned.shape[1], window[1], overlap):
                for b in window_starts(turned.shape[2], window[2], overlap):
                    place = (slice(t, t + window[0]), slice(a, a + window[1]), slice(b, b + window[2]))
                    with torch.no_grad():
                        logits = network(torch.from_numpy(turned[place].copy())[None, None])[0]
                    total[(slice(None), *place)] += torch.softmax(logits, 0).numpy()
                    count[place] += 1
        back = np.argsort(order)
        result = result + (total / count).transpose(0, *(1 + back)) / 3
    return result


@pytest.mark.parametrize("batch_size", [1, 3])
def test_the_sweep_equals_the_sum_over_windows_written_out(batch_size):
    network, image = small_network(), grey((18, 21, 25))
    ours = predict(network, image, (8, 16, 16), batch_size=batch_size, device="cpu")
    theirs = brute_force(network, image, (8, 16, 16))
    assert np.allclose(ours.probabilities, theirs, atol=1e-5)
    assert (ours.labels == theirs.argmax(0)).all()


def test_outside_the_mask_is_not_labelled_and_inside_is_unchanged_though_windows_are_skipped():
    network, image = small_network(), grey((24, 40, 40))
    mask = np.zeros(image.shape, bool)
    mask[:, :12, :14] = True
    masked = predict(network, image, (8, 16, 16), mask=mask)
    whole = predict(network, image, (8, 16, 16))
    assert (masked.labels[~mask] == 255).all()
    assert (masked.labels[mask] == whole.labels[mask]).all()
    assert np.array_equal(masked.probabilities[:, mask], whole.probabilities[:, mask])


def test_mirrored_copies_make_the_prediction_of_a_mirrored_image_the_mirrored_prediction():
    network, image = small_network(), grey((8, 16, 16))
    forward = Forward(network, "cpu", mirror="tab")
    windows = torch.from_numpy(image)[None, None]
    assert torch.allclose(forward(windows.flip(-1)), forward(windows).flip(-1), atol=1e-6)
    assert not torch.allclose(Forward(network, "cpu")(windows.flip(-1)), Forward(network, "cpu")(windows).flip(-1))


def test_an_ensemble_is_the_mean_of_its_networks():
    image = grey((16, 16, 16))
    one, two = (predict(small_network(seed), image, (8, 16, 16)).probabilities for seed in (1, 2))
    both = predict([small_network(1), small_network(2)], image, (8, 16, 16)).probabilities
    assert np.allclose(both, (one + two) / 2, atol=1e-6)


def test_the_network_is_left_as_it_was_in_training_mode():
    network = small_network().train()
    predict(network, grey((16, 16, 16)), (8, 16, 16))
    assert network.training


def test_two_channels_are_read_as_channels():
    torch.manual_seed(0)
    network = nn.Conv3d(2, 4, 3, padding=1)
    image = np.stack([grey((16, 16, 16)), grey((16, 16, 16), 1)])
    assert predict(network, image, (16, 16, 16)).labels.shape == (16, 16, 16)


def test_nan_in_the_image_and_a_mask_of_another_shape_are_refused():
    image = grey((16, 16, 16))
    with pytest.raises(InputError, match="mask"):
        predict(small_network(), image, (8, 16, 16), mask=np.ones((16, 16, 8), bool))
    image[3, 3, 3] = np.nan
    with pytest.raises(InputError, match="NaN"):
        predict(small_network(), image, (8, 16, 16))
