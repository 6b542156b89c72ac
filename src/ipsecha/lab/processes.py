"""Processes of the lab: bounded runs, children that die with the lab, and ends by process id.

Nothing here matches processes by name: what the lab ends is what it started, or what runs inside a namespace that
a killed earlier run of the lab left behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

DEFAULT_TIMEOUT_S = 20.0


class LabError(Exception):
    """The lab could not build, start or observe something; the text says what and shows the output."""


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    check: bool = True,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end and captures its text output.

    Raises LabError where it cannot be started, takes longer than ``timeout_s`` or (with ``check``) fails.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=None if environment is None else {**os.environ, **environment},
        )
    except FileNotFoundError:
        raise LabError(f"{argv[0]}: command not found") from None
    except subprocess.TimeoutExpired as late:
        raise LabError(f"{' '.join(argv)}: still running after {timeout_s:g} s\n{late.output or ''}") from None
    if check and done.returncode != 0:
        script = f"\n{stdin}" if stdin else ""
        raise LabError(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stdout}{done.stderr}{script}")
    return done


def start(
    argv: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Starts a process that writes to ``log`` and that the kernel ends when the lab itself dies."""
    setpriv = shutil.which("setpriv")
    prefix = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    with log.open("ab") as output:
        return subprocess.Popen(
            [*prefix, *argv],
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=None if environment is None else {**os.environ, **environment},
        )


def stop(process: subprocess.Popen[bytes], grace_s: float = 5.0) -> int:
    """Ends a process that ``start`` returned: asks first, kills after ``grace_s``.  Returns its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


def birth(pid: int) -> int | None:
    """When the process started (kernel ticks since boot), or None where there is none: pid and birth are unique."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[19])


def kill_all(pids: Sequence[int], patience_s: float = 2.0) -> None:
    """Kills these processes and waits until they are gone (at most ``patience_s``)."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and any(birth(pid) is not None for pid in pids):
        time.sleep(0.01)


def tail(log: Path, lines: int = 60) -> str:
    """The last lines of a log file, for an error message."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
