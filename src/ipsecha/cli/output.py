"""What all commands print: one line for an outcome, problems of a configuration, errors, JSON; and the exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from ipsecha.gateway.config_problems import ConfigError, ConfigProblem
from ipsecha.gateway.control import ControlError, DaemonUnreachable
from ipsecha.model.errors import IpsecHaError, PolicyError


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2  # wrong arguments or a wrong configuration
    UNREACHABLE = 3  # no daemon on the control socket
    UNPROTECTED = 4  # status --check: a failover now would cost the tunnels


def console(*, error: bool = False) -> Console:
    """A console of the present width; plain text where the output is no terminal.

    Without markup and emoji: brackets and ``:1234:`` stand in selectors and IPv6 addresses.
    """
    return Console(stderr=error, highlight=False, markup=False, emoji=False)


def report(text: str) -> None:
    """One line of good news."""
    console().print(Text(text), soft_wrap=True)


def emit(value: Any) -> None:
    """JSON on the standard output: a struct, or plain data."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_problems(problems: Iterable[ConfigProblem]) -> None:
    """Problems of a configuration on the standard error, one a line: ``file:line: key: what, did you mean``."""
    out = console(error=True)
    for problem in problems:
        place = f"{problem.file}:{problem.line}" if problem.line else problem.file
        line = Text(f"{place}: ", style="bold")
        word, style = ("warning", "yellow") if problem.level == "warning" else ("error", "red")
        line.append(f"{word}: ", style=style)
        if problem.key:
            line.append(f"{problem.key}: ", style="cyan")
        line.append(problem.text, style="none")
        if problem.nearest:
            line.append(f'; did you mean "{problem.nearest}"?', style="green")
        out.print(line, soft_wrap=True)


def explain(error: Exception, *, as_json: bool = False) -> int | None:
    """Print an error for people or scripts and return the exit code; None for an error that is not ours to explain."""
    code = _exit_code(error)
    if code is None:
        return None
    problems = error.problems if isinstance(error, ConfigError) else ()
    if as_json:
        emit({"ok": False, "error": {"code": _error_name(error), "message": str(error)}, "problems": problems})
    elif problems:
        print_problems(problems)
        errors = sum(problem.level == "error" for problem in problems)
        _complain(f"{errors} mistake{'' if errors == 1 else 's'} in the configuration: nothing was changed")
    else:
        _complain(f"{error}")
    return code


def _complain(text: str) -> None:
    console(error=True).print(Text.assemble(("ipsecha: ", "bold red"), text), soft_wrap=True)


def _exit_code(error: Exception) -> int | None:
    if isinstance(error, DaemonUnreachable):
        return ExitCode.UNREACHABLE
    if isinstance(error, PolicyError):
        return ExitCode.USAGE
    if isinstance(error, IpsecHaError | OSError):
        return ExitCode.FAILED
    return None


def _error_name(error: Exception) -> str:
    if isinstance(error, ControlError):
        return error.code
    return "configuration" if isinstance(error, PolicyError) else "failed"


def print_warnings(warnings: Iterable[str]) -> None:
    """Warnings that the daemon sent along with an outcome."""
    for warning in warnings:
        console(error=True).print(Text.assemble(("warning: ", "yellow"), warning), soft_wrap=True)
