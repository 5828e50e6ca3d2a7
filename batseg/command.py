"""One wrapper around every entry point: Hydra configuration in, one clear line and exit code 2 for bad input out."""

import os
import re
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from batseg.volumes import InputError

CONF = Path(__file__).resolve().parent.parent / "conf"
BAD_INPUT = (InputError, ValueError, OSError, HydraException, OmegaConfBaseException)
"""What counts as bad input. Anything else is a defect and keeps its traceback."""


def one_line(error: BaseException) -> str:
    """The error and its root cause as one line of plain text.

    Hydra wraps what a constructor raised; the cause says what was wrong, so it is what the user reads.
    """
    while error.__cause__ is not None and isinstance(error, (HydraException, OmegaConfBaseException)):
        error = error.__cause__
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.strerror}: {error.filename}"
    text = re.sub(r"\s*\n\s*", "; ", text.strip())
    return re.sub(r"(; )?(full_key|object_type|reference_type)[=:].*?(?=;|$)", "", text).strip("; ")


def command(config_name: str) -> Callable:
    """Decorate `main(cfg)` of an entry point: `@command("segment")` reads conf/segment.yaml.

    The decorated function takes no argument; it reads the overrides from the command line. Bad input (a ValueError,
    a file error, an error of the configuration) ends in one line on standard error and exit code 2.
    """

    def decorate(main: Callable[[DictConfig], object]) -> Callable[[], None]:
        def refuse(error: Exception) -> NoReturn:
            if os.environ.get("BATSEG_TRACEBACK"):
                raise error
            print(f"{config_name}: {one_line(error)}", file=sys.stderr)
            raise SystemExit(2) from None

        @wraps(main)
        def task(cfg: DictConfig) -> object:
            try:
                return main(cfg)
            except BAD_INPUT as error:
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    raise  # the launcher reports which job failed
                refuse(error)

        def run() -> None:
            os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises instead of printing and exiting with 1
            try:
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(task)()
            except BAD_INPUT as error:
                refuse(error)
            except KeyboardInterrupt:
                print(f"{config_name}: interrupted", file=sys.stderr)
                raise SystemExit(130) from None

        return run

    return decorate
