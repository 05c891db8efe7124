"""How a process ends: its exit code, one line for a mistake, a traceback for a bug."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from stages.core.errors import DataError, UserError
from stages.running.exit_codes import exit_code_of


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def test_a_mistake_ends_in_its_lines_and_its_code(capsys: pytest.CaptureFixture[str]) -> None:
    error = DataError.from_faults([("a: wrong", "correct a"), ("b: wrong", "correct b")])
    assert exit_code_of(raising(error)) == 3
    captured = capsys.readouterr()
    assert captured.err == "error: a: wrong. Fix: correct a\nerror: b: wrong. Fix: correct b\n"
    assert captured.out == ""


def test_an_interrupt_ends_as_a_shell_expects(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EFBIG, "no space left"),
        (errno.EACCES, "no permission"),
        (errno.EPERM, "no permission"),
        (errno.EROFS, "no permission"),
    ],
)
def test_a_full_or_locked_disk_is_one_line(
    number: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(raising(OSError(number, "no", "data/x\x1b[2J"))) == 5
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: data/x\\x1b[2J: {message}. Fix: ")
    assert printed.count("\n") == 1
    assert exit_code_of(raising(OSError(number, "no name"))) == 5


@pytest.mark.parametrize(
    "bug", [OSError(errno.EBADF, "a bug"), KeyError("a bug"), RuntimeError("a bug")]
)
def test_a_bug_is_not_caught(bug: Exception) -> None:
    with pytest.raises(type(bug), match="a bug"):
        exit_code_of(raising(bug))


def test_every_kind_of_mistake_becomes_its_code() -> None:
    codes = {kind.exit_code: exit_code_of(raising(kind("a", "b"))) for kind in kinds()}
    assert codes == {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6}


def kinds() -> list[type[UserError]]:
    return [UserError, *UserError.__subclasses__()]
