"""Folders of fits and rows: a fit is named by a hash of everything that matters for training, so rows share it."""

import fcntl
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import glob
from pathlib import Path

log = logging.getLogger(__name__)

OF_TRAINER = {"accelerator", "devices", "num_nodes", "strategy", "log_every_n_steps", "checkpoint_every"}
OF_DATA = {"workers", "hold_gb"}
IRRELEVANT = OF_TRAINER | OF_DATA
"""Settings that change where, how fast or how visibly a network is trained, but not which network."""

WHOLE_FILE_BYTES = 256 << 20


def relevant(content: object) -> object:
    """The part of a configuration that matters for training; sources of which nothing is drawn are left out."""
    if isinstance(content, Mapping):
        unused = {name for name, count in (content.get("counts") or {}).items() if not count}
        kept = {key: value for key, value in content.items() if key not in IRRELEVANT}
        for key in ("counts", "sources"):
            if isinstance(kept.get(key), Mapping):
                kept[key] = {name: value for name, value in kept[key].items() if name not in unused}
        return {str(key): relevant(value) for key, value in sorted(kept.items(), key=lambda item: str(item[0]))}
    if isinstance(content, (list, tuple)):
        return [relevant(value) for value in content]
    if isinstance(content, str):
        files = sorted(glob(content)) if "/" in content or Path(content).exists() else []
        return [fingerprint(Path(file)) for file in files] or content
    return content


def fingerprint(path: Path) -> str:
    """Hash of a file's or folder's content, independent of its place; of size and time for files above 256 MB."""
    digest = hashlib.blake2b(digest_size=16)
    for file in [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file()):
        status = file.stat()
        digest.update(str(file.relative_to(path)).encode() if file != path else path.suffix.encode())
        if status.st_size > WHOLE_FILE_BYTES:
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
        else:
            digest.update(file.read_bytes())
    return digest.hexdigest()


def key_of(content: object) -> str:
    """Ten hexadecimal digits that name a configuration and the files it reads."""
    text = json.dumps(relevant(content), sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=5).hexdigest()


@contextmanager
def fit_folder(root: str | Path, name: str, key: str, alone: bool = True) -> Iterator[Path]:
    """The folder of the fit `key` (made as root/name-key if there is none), locked against other processes.

    Rows that share a fit and run side by side wait here for one another. `alone=False` takes no lock: for the further
    processes of one distributed training.
    """
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    known = sorted(root.glob(f"*-{key}"))
    folder = known[0] if known else root / f"{name}-{key}"
    if not alone:
        yield folder
        return
    with _locked(root / f".{key}.lock", folder.name):
        known = sorted(root.glob(f"*-{key}"))
        folder = known[0] if known else folder
        folder.mkdir(exist_ok=True)
        try:
            yield folder
        except BaseException:
            if not list(folder.glob("*.ckpt")):  # nothing was learnt: bad input, most likely
                shutil.rmtree(folder)
            raise


@contextmanager
def _locked(path: Path, what: str) -> Iterator[None]:
    """Hold an exclusive lock on a file; say so where another process has it."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("waiting for the fit %s, which another process is making", what)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def finished(folder: Path) -> dict | None:
    """What a finished fit recorded about itself, or None."""
    record = folder / "fit.json"
    return json.loads(record.read_text()) if record.exists() else None
