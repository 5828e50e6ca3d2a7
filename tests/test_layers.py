"""The floors of the house: imports point down only, and a stage does not import another stage."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VOCABULARY = {"phases", "volumes", "progress", "command", "normalisation", "greyvalues"}
STAGES = {
    "structures": "structures",
    "tomography": "tomography",
    "resolution": "resolution",
    "registration": "registration",
    "subvolumes": "learning data",
    "augmentation": "learning data",
    "networks": "networks",
    "inference": "inference",
    "postprocessing": "postprocessing",
    "baselines": "baselines",
    "evaluation": "evaluation",
    "analysis": "analysis",
    "report": "report",
}
SOURCES = sorted((ROOT / "batseg").rglob("*.py"))


def room(name: str) -> str:
    """The room of a dotted module name: 'batseg.networks.unet3d' -> 'networks'."""
    return name.split(".")[1] if "." in name else ""


def floor(room_name: str) -> int:
    """0 vocabulary, 1 morphology, 2 stages, 3 wiring."""
    if room_name in VOCABULARY or not room_name:
        return 0
    if room_name == "morphology":
        return 1
    if room_name in STAGES:
        return 2
    if room_name == "training":
        return 3
    raise AssertionError(f"batseg.{room_name} belongs to no floor: name it in tests/test_layers.py")


def module_name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts)


def imported(file: Path) -> set[str]:
    """Dotted names of this project's modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "batseg" else {node.module}
            )
    return {name for name in names if name.split(".")[0] == "batseg"}


def arrow_points_up(source: str, target: str) -> bool:
    if room(source) == room(target):
        return False
    if floor(room(target)) != floor(room(source)):
        return floor(room(target)) > floor(room(source))
    return floor(room(source)) == 2 and STAGES[room(source)] != STAGES[room(target)]


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_down_only(file):
    wrong = [target for target in imported(file) if arrow_points_up(module_name(file), target)]
    assert not wrong, f"{file.relative_to(ROOT)} imports {', '.join(wrong)}"


def test_an_upward_arrow_is_seen():
    assert arrow_points_up("batseg.networks.unet3d", "batseg.training.fit")
    assert arrow_points_up("batseg.structures.electrode", "batseg.tomography.scan")
    assert arrow_points_up("batseg.volumes", "batseg.evaluation.overlap")
    assert not arrow_points_up("batseg.training.fit", "batseg.networks.unet3d")
    assert not arrow_points_up("batseg.subvolumes", "batseg.augmentation")


@pytest.mark.parametrize("file", sorted((ROOT / "scripts").glob("*.py")), ids=lambda file: file.name)
def test_no_module_imports_a_script_and_scripts_are_short(file):
    assert len(file.read_text().splitlines()) <= 150, f"{file.name}: a script reads, calls and writes"
    importers = [source for source in SOURCES if f"scripts.{file.stem}" in source.read_text()]
    assert not importers


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_config_object_below_the_entry_points(file):
    allowed = {"command", "training"}
    assert "omegaconf" not in file.read_text() or room(module_name(file)) in allowed
