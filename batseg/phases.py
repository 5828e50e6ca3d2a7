"""The four phases of a graphite-silicon electrode: names, label codes, colours, nominal fractions; label maps."""

from collections.abc import Mapping

import numpy as np

PHASES = ("pore", "graphite", "silicon", "cbd")
"""Phase names; the index in this tuple is the phase's label code. cbd = carbon-black-binder domain."""

PORE, GRAPHITE, SILICON, CBD = range(4)

NOT_LABELLED = 255
"""Label code of voxels without a label: not trained on, not scored."""

COLOURS = {"pore": "#20262e", "graphite": "#7f8c9b", "silicon": "#e8a33d", "cbd": "#3fa7a3"}

NOMINAL_FRACTIONS = {"pore": 0.51, "graphite": 0.35, "silicon": 0.06, "cbd": 0.08}
"""Volume fractions expected from the recipe. Source: paper, Fig. 7a and text."""


def label_map(mapping: Mapping[int, str] | None) -> dict[int, str]:
    """Validate a label map {code: phase name}; None means codes 0 to 3 in the order of PHASES.

    A given map replaces the default, it is never merged into it. 255 is always "not labelled" unless the map names it.
    Raises ValueError for anything that is not code (0..255) to phase name.
    """
    if mapping is None:
        return dict(enumerate(PHASES))
    if not isinstance(mapping, Mapping) or not mapping:
        raise ValueError(f"label_map must map codes to phase names, as in '{{0: pore, 1: graphite}}'; got {mapping!r}")
    valid = {}
    for code, phase in mapping.items():
        is_code = isinstance(code, (int, np.integer)) and not isinstance(code, bool) and 0 <= code <= 255
        if not is_code or phase not in PHASES:
            raise ValueError(
                f"label_map maps codes 0..255 to one of {', '.join(PHASES)}, as in '{{0: pore, 85: graphite}}'; "
                f"got {code!r}: {phase!r}"
            )
        valid[int(code)] = phase
    return valid


def to_phase_labels(codes: np.ndarray, mapping: Mapping[int, str] | None = None) -> np.ndarray:
    """Labels in the project's codes (uint8, 0..3 and 255) from a volume in any codes.

    Raises ValueError if the volume is not of integer type or holds a code outside the map (255 apart).
    """
    codes = np.asarray(codes)
    if codes.dtype == bool:
        codes = codes.astype(np.uint8)
    if not np.issubdtype(codes.dtype, np.integer):
        raise ValueError(f"labels must be integers, got {codes.dtype}: is this an image?")
    valid = label_map(mapping)
    found = np.unique(codes) if codes.dtype != np.uint8 else np.flatnonzero(np.bincount(codes.ravel(), minlength=256))
    unknown = [int(code) for code in found if int(code) not in valid and code != NOT_LABELLED]
    if unknown:
        shown = ", ".join(map(str, unknown[:8])) + (" ..." if len(unknown) > 8 else "")
        raise ValueError(f"label values outside the map {valid}: {shown}; give label_map='{{code: phase, ...}}'")
    table = np.full(256, NOT_LABELLED, np.uint8)
    for code, phase in valid.items():
        table[code] = PHASES.index(phase)
    return table[codes]
