"""Figures and texts on microstructure from tables alone."""

import matplotlib.pyplot as plt
import pytest

from batseg.report.experiment import Experiment, write_experiment
from batseg.report.microstructure import composition, draw_figures, read_rows, shells, table_2
from batseg.report.microstructure_tables import error_budget, representativity, solver_bias, table_2_text
from batseg.report.table import write_csv

NAN = float("nan")


def transport_rows():
    rows = []
    for sample, cycles, factor in (("a", 0.0, 1.0), ("b", 0.0, 1.2), ("c", 8.0, 1.0)):
        for downscale, bias in ((2.0, 1.1), (1.0, 1.0)):
            for conductor, value in (("pore", 0.14), ("pore+cbd", 0.19)):
                rows.append(
                    {"sample": sample, "cycles": cycles, "conductor": conductor, "direction": "z"}
                    | {"through_plane": True, "downscale": downscale, "tolerance": 1e-3}
                    | {"D_rel": value * factor * bias, "epsilon": 0.5, "tau_factor": 0.5 / (value * factor * bias)}
                )
    return rows


def test_table_2_averages_the_samples_of_a_state_at_the_first_setting():
    rows = {(row["quantity"], row["conductor"], row["cycles"]): row for row in table_2(transport_rows())}
    pristine = rows["D_rel", "pore", 0.0]
    assert pristine["mean"] == pytest.approx(0.14 * 1.1 * 1.1)
    assert pristine["standard_deviation"] == pytest.approx(0.14 * 1.1 * 0.2 / 2**0.5)
    assert pristine["paper_mean"] == 0.1492
    assert rows["D_rel", "pore", 8.0]["samples"] == 1
    assert "0.1492 ± 0.0369" in table_2_text(transport_rows())


def test_the_bias_of_halved_voxels_is_against_the_same_sample_at_full_size():
    text = solver_bias(transport_rows())
    assert text.count("+10.00 % ± 0.00 %") == 2
    assert solver_bias([row for row in transport_rows() if row["downscale"] == 2]) == ""


def test_the_error_budget_is_empty_without_realisations():
    row = {"quantity": "D_rel pore", "variance_within_states": 4.0, "sampling_variance": 3.0}
    assert "| 2 " in error_budget([row | {"segmentation_variance": 1.0}], ["D_rel pore, mean"])
    assert error_budget([row | {"segmentation_variance": NAN}], ["D_rel pore, mean"]) == ""


def test_composition_shows_every_sample_and_the_recipe():
    rows = [
        {"sample": f"s{i}", "cycles": cycles, "phase": phase, "volume_fraction": 0.3, "standard_error": 0.01}
        | {"labelled_volume_um3": 100.0, "volume_for_5_percent_error_um3": 400.0}
        for i, cycles in enumerate((0.0, 0.0, 8.0))
        for phase in ("pore", "graphite", "silicon", "cbd")
    ]
    figure = composition(rows)
    axes = figure.axes[0]
    assert sum(len(line.get_xdata()) for line in axes.lines if line.get_marker() == "o") == 12
    assert "| 400" in representativity(rows)
    plt.close(figure)


def test_shells_of_one_sample_without_scatter_are_drawn():
    rows = [
        {"cycles": NAN, "phase": "silicon", "rule": "excluded", "shell": 1, "distance_from_nm": 0.0}
        | {"distance_to_nm": 61.0, "samples": 1, "cbd_content_mean": 0.4, "cbd_content_sd": NAN}
    ]
    figure = shells(rows, "silicon")
    assert figure.axes[0].lines[0].get_ydata().tolist() == [0.4]
    plt.close(figure)


def test_an_experiment_folder_says_what_the_tables_say(tmp_path):
    analysis = tmp_path / "analysis"
    write_csv(analysis / "transport.csv", transport_rows())
    drawn = draw_figures(analysis, analysis / "figures")
    assert [path.name for path in drawn] == ["table2_transport.png"]
    assert drawn[0].with_suffix(".svg").exists()
    claim = {"statement": "Transport is 0.14", "place": "Table 2", "paper": "0.14", "measured": "D_rel", "value": 0.15}
    claim |= {"interval_low": 0.14, "interval_high": 0.16, "confirmed_from": 0.0, "confirmed_to": float("inf")}
    experiment = Experiment("Table 2", "How much?", ("transport",), ("table2_transport",))
    claims = [claim | {"verdict": "confirmed"}, claim | {"verdict": "undecided"}]
    readme = write_experiment(tmp_path / "out", experiment, analysis, "make it", "simulated", claims, ["note"])
    text = readme.read_text()
    assert "Claims: 1 confirmed, 1 undecided" in text
    assert "0.150 [0.140, 0.160]" in text
    assert read_rows(tmp_path / "out" / "transport.csv")[0]["through_plane"] is True
    assert (tmp_path / "out" / "table2_transport.png").exists()
