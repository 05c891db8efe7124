"""Where trials are stored: a journal file that survives its writers, or a database."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import optuna
from filelock import FileLock
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    IntegrityError,
    NoSuchModuleError,
    ProgrammingError,
    SQLAlchemyError,
)

from stages.core import paths
from stages.core.errors import HostError, ParamsError, printable

PATIENCE = 300.0  # seconds for which a storage that does not answer is tried again
T = TypeVar("T")

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class Journal(JournalFileBackend):
    """Optuna's journal, for one that a killed process may have left with half a last line.

    Nothing may follow such a line, so the next writer cuts it off. The lock is the kernel's: it is
    free the moment its holder is gone.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _KernelLock(path))
        self.path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write complete lines, after a complete line."""
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._lock.acquire()
        try:
            with self.path.open("r+b") as file:
                _cut_half_a_line(file)  # guard: half a line of the journal
                file.seek(0, os.SEEK_END)
                file.write(lines.encode())
                file.flush()
                os.fsync(file.fileno())
        finally:
            self._lock.release()


def _cut_half_a_line(file: BinaryIO) -> None:
    """Cut off what follows the last end of a line."""
    if file.seek(0, os.SEEK_END):
        file.seek(-1, os.SEEK_END)
        if file.read(1) != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)


class _KernelLock(BaseJournalFileLock):
    def __init__(self, path: Path) -> None:
        self.lock = FileLock(f"{path}.lock")

    def acquire(self) -> bool:
        self.lock.acquire()
        return True

    def release(self) -> None:
        self.lock.release()


def open_storage(url: str | None) -> BaseStorage:
    """Return the storage of an URL, of a journal's path, or by default of the project's journal.

    Raises:
        ParamsError: if it is no storage that Optuna knows.
        HostError: if the database does not answer, or a journal is damaged.
    """
    if url is None or "://" not in url:
        path = Path(url) if url else paths.STUDIES / "journal.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab"):  # a journal that cannot be written is reported now
            pass
        try:
            return JournalStorage(Journal(path))
        except (ValueError, KeyError, TypeError) as error:
            what = f"{path}: not a journal of Optuna: {printable(error)}"
            raise HostError(what, "move it away, or name another: --storage FILE") from error
    return _open_database(url)


def _open_database(url: str, tries: int = 5) -> RDBStorage:
    shown = printable(_without_password(url), 200)
    try:
        arguments = {"connect_timeout": 10} if url.startswith(("postgresql", "mysql")) else {}
        return RDBStorage(url, engine_kwargs={"pool_pre_ping": True, "connect_args": arguments})
    except (IntegrityError, ProgrammingError) as error:  # two machines make its tables at once
        if not tries:
            raise no_answer(shown, error) from error
        time.sleep(1)
        return _open_database(url, tries - 1)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ParamsError(
            f"--storage: {shown}: {printable(error, 200)}",
            "give a URL as SQLAlchemy takes it, for example postgresql://user@host/name",
        ) from error
    except ImportError as error:
        what = f"--storage: {shown}: its driver is not installed"
        raise HostError(what, "run: pip install 'bert-lora-dvc[postgresql]'") from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise no_answer(shown, error) from error


def no_answer(shown: str, error: Exception) -> HostError:
    """Return the error for a storage that cannot be reached; finished trials are kept in it."""
    reason = printable(str(error.__cause__ or error).partition("\n")[0], 160)
    return HostError(
        f"--storage: {shown} does not answer: {reason}",
        "start it or correct the URL, and give the same command again: it continues",
    )


def _without_password(url: str) -> str:
    try:
        return make_url(url).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):
        return url


def patiently(work: Callable[[], T]) -> T:
    """Return what `work` returns; while the storage does not answer it is tried again.

    Raises:
        HostError: if it does not answer for PATIENCE seconds.
    """
    start, wait = time.monotonic(), 1.0
    while True:
        try:
            return work()
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            if time.monotonic() - start > PATIENCE:
                raise no_answer("the storage", error) from error
            time.sleep(wait)
            wait = min(2 * wait, 30)
