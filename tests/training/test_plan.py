"""What fits is measured while it is small and extrapolated where measuring would take the machine down."""

import pytest

from batseg.training.plan import Cost, extrapolated, plan

MODEL = {"_target_": "batseg.networks.unet3d.UNet3D", "in_channels": 1, "phases": 4, "width": 1}


def test_memory_grows_on_a_line_over_voxels_times_channels():
    """0.5 GB at work 1000 and 0.9 at 3000 make 0.3 + 0.2 per thousand, so 4.3 at 20000."""
    costs = [Cost((10, 10, 10), 1, 1, 0.5, 1.0, True), Cost((10, 10, 10), 1, 3, 0.9, 1.0, True)]
    assert extrapolated(costs, (10, 10, 10), 4, 5) == pytest.approx(4.3)
    assert extrapolated(costs[:1], (10, 10, 10), 4, 5) is None


@pytest.mark.slow
def test_small_steps_are_measured_and_what_would_not_fit_is_never_tried():
    patches = [(8, 32, 32), (16, 64, 64), (96, 256, 256)]
    costs = plan(MODEL, patches, [2], [1, 4], memory_gb=1.5, steps=1, accelerator="cpu")
    small, large = costs[0], costs[-1]
    assert small.measured
    assert 0.1 < small.memory_gb < 1.5
    assert small.step_s > 0
    assert (large.patch, large.width, large.batch_size) == ((96, 256, 256), 2, 4)
    assert not large.measured
    assert large.step_s is None
    assert large.memory_gb > 1.5
