"""Samples in, tables out: which volumes belong to which sample and state, and the folder that the analysis writes."""

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import zarr

from batseg.analysis.sample import Tables
from batseg.analysis.series import Analysed
from batseg.volumes import InputError, replacing, split_path, write_json


@dataclass(frozen=True)
class Source:
    """Files of one sample; cycles is NaN if unknown."""

    sample: str
    cycles: float
    labels: Path
    probabilities: Path | None = None


def find_sources(
    labels: str | Sequence[str] | None, table: str | None, probabilities: str | None = None
) -> list[Source]:
    """Sources from one label volume, a list of them, or a table (CSV: sample, cycles, labels[, probabilities]).

    cycles is a number or 'pristine' (0). Paths in a table are relative to its folder. A folder stands for the table of
    its TIFF volumes: `pristine_1.tif` has 0 cycles, `cycles5_2.tif` 5, other names an unknown number; probabilities
    are looked for in `<sample>/probabilities.zarr`, where scripts/segment.py leaves them. Raises InputError unless
    exactly one of labels and table is given, and for a table without rows or columns, or with a sample named twice.
    """
    if (labels is None) == (table is None):
        raise InputError("give either labels=... (one volume or a list) or table=... (a CSV of samples)")
    if table is not None:
        return _read_folder(Path(table)) if Path(table).is_dir() else _read_table(Path(table))
    files = [labels] if isinstance(labels, (str, Path)) else list(labels)
    if not files or (probabilities is not None and len(files) > 1):
        raise InputError("probabilities=... goes with one volume; for several use table=... with that column")
    sources = [Source(split_path(file)[0].stem, float("nan"), Path(file)) for file in files]
    if probabilities is not None:
        sources = [Source(sources[0].sample, sources[0].cycles, sources[0].labels, Path(probabilities))]
    return _distinct(sources, "labels")


def _read_folder(folder: Path) -> list[Source]:
    sources = []
    for labels in sorted(folder.glob("*.tif")):
        named = re.match(r"(pristine)|cycles?_?(\d+)", labels.stem)
        cycles = float("nan") if named is None else float(named.group(2) or 0)
        probabilities = folder / labels.stem / "probabilities.zarr"
        sources.append(Source(labels.stem, cycles, labels, probabilities if probabilities.exists() else None))
    if not sources:
        raise InputError(f"{folder}: no .tif volumes in this folder")
    return sources


def _read_table(table: Path) -> list[Source]:
    if not table.is_file():
        raise InputError(f"no such table: {table}")
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file, skipinitialspace=True))
    missing = {"sample", "cycles", "labels"} - set(rows[0] if rows else ())
    if missing:
        raise InputError(f"{table}: expected columns sample, cycles, labels; missing {', '.join(sorted(missing))}")
    sources = []
    for row in rows:
        text = (row["cycles"] or "").strip()
        try:
            cycles = 0.0 if text == "pristine" else float(text or "nan")
        except ValueError:
            raise InputError(f"{table}: cycles must be a number or 'pristine', got {text!r}") from None
        probabilities = (row.get("probabilities") or "").strip()
        sources.append(
            Source(
                row["sample"].strip(),
                cycles,
                table.parent / row["labels"].strip(),
                table.parent / probabilities if probabilities else None,
            )
        )
    return _distinct(sources, str(table))


def _distinct(sources: list[Source], where: str) -> list[Source]:
    names = [source.sample for source in sources]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{where}: samples named twice: {', '.join(twice)}")
    return sources


def read_probabilities(path: str | Path, shape: tuple[int, ...]) -> np.ndarray:
    """Probabilities (phase 4, z, y, x) as float32 from .zarr, .npy or .tif; they must fit labels of `shape`."""
    file, inner = split_path(path)
    if not file.exists():
        raise InputError(f"no such file or folder: {file}")
    if file.suffix == ".zarr":
        opened = zarr.open(str(file), mode="r")
        array = opened[:] if isinstance(opened, zarr.Array) else opened[(inner or "0").strip("/")][:]
    elif file.suffix == ".npy":
        array = np.load(file)
    else:
        array = tifffile.imread(file)
    if array.shape != (4, *shape):
        raise InputError(f"{path}: expected probabilities of shape {(4, *shape)}, got {array.shape}")
    scale = 255.0 if array.dtype == np.uint8 else 1.0
    return array.astype(np.float32) / scale


def stamp(source: Source, how: dict, voxel_nm: float) -> list:
    """What tells one analysis of a sample from another: its files' sizes and times, and how it is measured."""
    files = [path for path in (source.labels, source.probabilities) if path is not None]
    states = [path.stat() for path in files]
    changed = [[str(path), state.st_size, state.st_mtime_ns] for path, state in zip(files, states)]
    return json.loads(json.dumps([changed, source.cycles, how, voxel_nm]))


def save_analysed(path: Path, analysed: Analysed, identity: list) -> None:
    """Keep the measured tables of one sample, so that an interrupted series continues."""
    drawn = {name: values.tolist() for name, values in analysed.realisations.items()}
    content = {"tables": analysed.tables, "subvolumes": analysed.subvolumes, "realisations": drawn}
    write_json(path, {"identity": identity, "sample": analysed.sample, "cycles": analysed.cycles} | content)


def load_analysed(path: Path, identity: list) -> Analysed | None:
    """What `save_analysed` kept, or None if there is nothing or it is of other files or settings."""
    if not path.exists():
        return None
    kept = json.loads(path.read_text())
    if json.dumps(kept["identity"]) != json.dumps(identity):  # text, as NaN differs from itself
        return None
    drawn = {name: np.array(values) for name, values in kept["realisations"].items()}
    return Analysed(kept["sample"], kept["cycles"], kept["tables"], kept["subvolumes"], drawn)


def write_tables(folder: str | Path, tables: Tables, summary: dict) -> Path:
    """Write every table as CSV and the summary as summary.json. Numbers in full precision, NaN as nan."""
    folder = Path(folder)
    for name, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        if not rows:
            continue
        with replacing(folder / f"{name}.csv") as draft, open(draft, "w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="nan")
            writer.writeheader()
            writer.writerows(rows)
    write_json(folder / "summary.json", summary)
    return folder
