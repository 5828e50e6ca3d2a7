"""Label maps: any codes in, the project's codes out, and refusals that say what was found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batseg.phases import NOMINAL_FRACTIONS, NOT_LABELLED, PHASES, label_map, to_phase_labels

MAPS = st.dictionaries(st.integers(0, 254), st.sampled_from(PHASES), min_size=1, max_size=8)
INTEGERS = st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.int64, ">u2"])


@given(st.data(), MAPS, INTEGERS)
def test_every_voxel_gets_the_phase_its_code_stands_for_in_any_integer_type(data, mapping, dtype):
    largest = 127 if np.dtype(dtype).itemsize == 1 and np.dtype(dtype).kind == "i" else 255
    codes = st.sampled_from([code for code in (*mapping, NOT_LABELLED) if code <= largest])
    volume = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=3, max_side=5), elements=codes))
    found = to_phase_labels(volume, mapping)
    assert found.dtype == np.uint8
    assert found.shape == volume.shape
    for code, label in zip(volume.ravel().tolist(), found.ravel().tolist()):
        assert label == (NOT_LABELLED if code == NOT_LABELLED else PHASES.index(mapping[code]))


@given(hnp.arrays(np.uint8, (3, 4), elements=st.sampled_from([0, 1, 2, 3, 255])))
def test_the_projects_own_codes_stay_as_they_are(volume):
    np.testing.assert_array_equal(to_phase_labels(volume), volume)


@given(MAPS, st.integers(-300, 70000))
def test_a_code_outside_the_map_is_named(mapping, code):
    volume = np.array([[next(iter(mapping)), code]], np.int32)
    if code in mapping or code == NOT_LABELLED:
        to_phase_labels(volume, mapping)
    else:
        with pytest.raises(ValueError, match=rf"outside the map .*: {code}; give label_map"):
            to_phase_labels(volume, mapping)


def test_a_given_map_replaces_the_default_and_may_name_255():
    assert label_map(None) == {0: "pore", 1: "graphite", 2: "silicon", 3: "cbd"}
    assert label_map({85: "graphite"}) == {85: "graphite"}
    with pytest.raises(ValueError, match="outside the map"):
        to_phase_labels(np.array([0]), {85: "graphite"})
    assert to_phase_labels(np.array([255, 0]), {255: "cbd", 0: "pore"}).tolist() == [3, 0]


def test_boolean_masks_are_pore_and_graphite_and_float_labels_are_refused():
    assert to_phase_labels(np.array([False, True])).tolist() == [0, 1]
    for dtype in (np.float32, np.complex64):
        with pytest.raises(ValueError, match="labels must be integers"):
            to_phase_labels(np.zeros(3, dtype))


def test_many_unknown_codes_are_not_all_listed():
    with pytest.raises(ValueError, match=r"4, 5, 6, 7, 8, 9, 10, 11 \.\.\.") as raised:
        to_phase_labels(np.arange(200))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "mapping",
    [{}, [0, 1], "0: pore", {0: "pores"}, {"0": "pore"}, {-1: "pore"}, {256: "pore"}, {True: "pore"}, {0.5: "cbd"}],
)
def test_anything_but_code_to_phase_is_no_map(mapping):
    with pytest.raises(ValueError, match="label_map m"):
        label_map(mapping)


def test_nominal_fractions_add_up():
    assert tuple(NOMINAL_FRACTIONS) == PHASES
    assert sum(NOMINAL_FRACTIONS.values()) == pytest.approx(1)
