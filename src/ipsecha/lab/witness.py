"""The witness of a pair as a real process, in a namespace of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from ipsecha.lab.namespaces import Namespace
from ipsecha.lab.processes import LabError, stop, tail

_COMMAND_LINE = "from ipsecha.cli.main import run; run()"


class Witness:
    """One daemon, run from ``directory/witness.toml``."""

    def __init__(self, directory: Path, namespace: Namespace) -> None:
        self.directory = directory
        self.namespace = namespace
        self.log = directory / "witness.log"
        self.ledger = directory / "ledger.json"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Witness:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is not None:
            error.add_note(f"--- log of the witness ---\n{tail(self.log)}")

    def start(self, timeout_s: float = 15.0) -> None:
        """Starts the daemon and waits until it has its ledger.  Raises LabError with its log if it does not."""
        self.log.unlink(missing_ok=True)
        configuration = str(self.directory / "witness.toml")
        argv = [sys.executable, "-c", _COMMAND_LINE, "cluster", "witness", "--config", configuration]
        self._process = self.namespace.start(argv, self.log)
        deadline = time.monotonic() + timeout_s
        while "witness for" not in (self.log.read_text() if self.log.exists() else ""):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"the witness did not start:\n{tail(self.log)}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            stop(self._process)

    @property
    def epoch(self) -> int:
        """What it has on disk."""
        return int(json.loads(self.ledger.read_text())["lab"]["epoch"])
