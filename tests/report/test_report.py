"""Tables, figures and pages show what they were given."""

import csv

import matplotlib.pyplot as plt
import numpy as np
import pytest

from batseg.phases import COLOURS, PHASES
from batseg.report.figures import curves, orthogonal_slices, save_figure, show_labels
from batseg.report.page import Section, write_page
from batseg.report.table import PAPER_TABLE_1, cell, markdown, table_1, write_csv

DICE = {"pore": 0.5, "graphite": 0.25, "silicon": 1.0, "cbd": 0.25, "mean": 0.5}


def test_the_papers_means_are_the_means_of_its_phases():
    for row in PAPER_TABLE_1.values():
        assert row["mean"] == pytest.approx(np.mean([row[phase] for phase in PHASES]), abs=6e-4)


def test_table_1_sets_our_numbers_beside_the_papers():
    (ours, unknown) = table_1({"hybrid": DICE, "kmeans": DICE})
    assert (ours["cbd"], ours["paper cbd"]) == (0.25, 0.58)
    assert unknown["paper mean"] is None


def test_a_missing_value_is_a_dash_and_none_is_empty():
    assert [cell(float("nan")), cell(None), cell(0.12345), cell("x")] == ["–", "", "0.123", "x"]


def test_markdown_columns_line_up():
    lines = markdown([{"a": 1.0, "b": "longer"}, {"a": 22.0, "b": None}]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert "22.000" in lines[-1]


def test_csv_comes_back_as_written(tmp_path):
    write_csv(tmp_path / "t.csv", [{"x": 1, "y": "a,b"}])
    with open(tmp_path / "t.csv") as file:
        assert list(csv.DictReader(file)) == [{"x": "1", "y": "a,b"}]


def test_labels_are_drawn_in_the_phases_colours():
    figure, axes = plt.subplots()
    show_labels(axes, np.array([[0, 1], [2, 255]], np.uint8))
    picture = axes.images[0]
    shown = [picture.cmap(picture.norm(code)) for code in (0, 1, 2, 3)]
    assert shown == [pytest.approx(plt.matplotlib.colors.to_rgba(COLOURS[phase])) for phase in PHASES]
    assert picture.cmap(picture.norm(255)) == (1, 1, 1, 1)
    plt.close(figure)


def test_figures_are_written_as_png_and_svg(tmp_path):
    volume = np.random.default_rng(0).random((6, 8, 10))
    figure = orthogonal_slices(volume, {"truth": (4 * volume).astype(np.uint8)})
    assert [axes.get_title() for axes in figure.axes[:2]] == ["image", "truth"]
    png = save_figure(figure, tmp_path / "slices")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "slices.svg").stat().st_size > 1000
    assert sorted(file.name for file in tmp_path.iterdir()) == ["slices.png", "slices.svg"]


def test_curves_leave_nan_points_out():
    figure = curves({"loss": ([0, 1, 2], [1.0, np.nan, 3.0])}, "step", "loss")
    assert figure.axes[0].lines[0].get_xydata().tolist() == [[0, 1], [2, 3]]
    plt.close(figure)


def test_a_page_embeds_its_pictures_and_escapes_its_text(tmp_path):
    png = save_figure(curves({}, "x", "y"), tmp_path / "empty")
    section = Section("T<1", ["a & b"], [{"system": "real", "mean": 0.5}], [png], "python train.py")
    text = write_page(tmp_path / "index.html", "Page", [section], note="simulated").read_text()
    assert "T&lt;1" in text
    assert "a &amp; b" in text
    assert "data:image/png;base64," in text
    assert "<td>0.500</td>" in text
    assert "simulated" in text
