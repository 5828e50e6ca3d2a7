"""The picture of styles: what is seen obliquely from above, and volumes of different sizes side by side."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from batseg.phases import COLOURS
from batseg.report.style import relief, style_figure


def test_the_relief_shows_the_uppermost_voxel_of_its_phases_darker_when_deeper():
    labels = np.zeros((8, 4, 4), np.uint8)
    labels[0, 0, 0] = 1  # graphite is left out
    labels[2, 0, 0], labels[6, 2, 2] = 3, 2
    picture = relief(labels)
    assert picture.shape == (8, 8, 3)
    np.testing.assert_allclose(picture[1, 1], np.array(to_rgb(COLOURS["cbd"])) * (1 - 0.75 * 2 / 8))
    np.testing.assert_allclose(picture[5, 5], np.array(to_rgb(COLOURS["silicon"])) * (1 - 0.75 * 6 / 8))
    assert (picture == 1).all(axis=2).sum() == 8 * 8 - 2


def test_volumes_are_cut_to_the_same_size_about_their_centres():
    large = np.zeros((8, 12, 16), np.uint8)
    large[4] = 1
    figure = style_figure({"basic": np.full((4, 6, 8), 3, np.uint8), "template": large})
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    assert [picture.shape[:2] for picture in shown] == [(6, 8)] * 2 + [(4, 8)] * 2 + [(8, 10)] * 2
    assert (shown[1] == 1).all()
    assert [axes.get_title() for axes in figure.axes[:2]] == ["basic", "template"]
    assert shown[0].max() == pytest.approx(3)
