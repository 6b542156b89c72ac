"""``ipsecha lab``: a cluster on this machine, a tunnel, a fault, and what the tunnel felt of it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ipsecha.lab import namespaces, strongswan
from ipsecha.lab.failover import Direction, Fault, Outcome, Scene
from ipsecha.lab.loopback import LEFT_OUT, on_loopback
from ipsecha.lab.member import COMMAND
from ipsecha.lab.plays import MORTAL, play
from ipsecha.lab.probes import Report
from ipsecha.lab.processes import LabError, birth
from ipsecha.lab.scenes import PeerKind, in_namespaces

_DIRECTORY = "ipsecha-lab-"

app = typer.Typer(no_args_is_help=True, add_completion=False, context_settings={"help_option_names": ["-h", "--help"]})


@app.callback()
def lab() -> None:
    """A cluster in network namespaces on this machine."""


@app.command()
def failover(
    peer: Annotated[PeerKind | None, typer.Option(help="Default: strongSwan where it is installed.")] = None,
    fault: Annotated[Fault, typer.Option(help="What goes wrong.")] = Fault.KILL,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcomes as JSON lines.")] = False,
    witness: Annotated[bool, typer.Option("--witness", help="With a witness on a third machine.")] = False,
    runs: Annotated[int, typer.Option(min=1, help="How often, each with a fresh cluster.")] = 1,
    keep: Annotated[Path | None, typer.Option(help="Keep configurations, logs and captures in this directory.")] = None,
) -> None:
    """Let the active member of a pair fail, and show what a tunnel to a peer felt of it.

    Exit code 0 only if every verdict holds in every run.  As root in network namespaces; otherwise on loopback.
    """
    console = Console(stderr=as_json)
    kind = _choose(peer, console)
    good = True
    for number in range(1, runs + 1):
        if runs > 1:
            console.rule(f"run {number} of {runs}")
        directory = keep / f"run{number}" if keep is not None else _new_directory()
        try:
            outcome = _run(kind, fault, directory, console, witness, None if runs == 1 else number - 1)
        except LabError as error:
            console.print(f"[red]the lab failed:[/] {error}", highlight=False)
            raise typer.Exit(2) from None
        finally:
            if keep is None:
                shutil.rmtree(directory, ignore_errors=True)
        good = good and outcome.holds
        if as_json:
            print(json.dumps(_plain(outcome, kind)))
        else:
            _show(outcome, console)
    raise typer.Exit(0 if good else 1)


def _new_directory() -> Path:
    """A directory of this process; those of runs that were killed are removed, for they hold keys."""
    for left in Path(tempfile.gettempdir()).glob(f"{_DIRECTORY}*.*-*"):
        owner, _, born = left.name.removeprefix(_DIRECTORY).partition("-")[0].partition(".")
        if left.lstat().st_uid == os.geteuid() and owner.isdigit() and str(birth(int(owner))) != born:
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_DIRECTORY}{os.getpid()}.{birth(os.getpid())}-"))


def _choose(peer: PeerKind | None, console: Console) -> PeerKind | None:
    """The kind of peer; None means loopback, where there is only our own."""
    reason = namespaces.available()
    if reason is not None:
        console.print(f"On loopback, because {reason}. This leaves out:")
        for text in LEFT_OUT:
            console.print(f"  - {text}")
        return None
    if peer is None:
        peer = PeerKind.IPSECHA if strongswan.available() else PeerKind.STRONGSWAN
    if peer is PeerKind.STRONGSWAN and (reason := strongswan.available()) is not None:
        console.print(f"[red]{reason}[/]")
        raise typer.Exit(2)
    return peer


def _run(
    kind: PeerKind | None, fault: Fault, directory: Path, console: Console, witness: bool, number: int | None
) -> Outcome:
    name = kind.value if kind is not None else "ipsecha on loopback"
    console.print(f"peer: {name}; fault: {fault.value}{', with a witness' if witness else ''}", highlight=False)
    command = MORTAL if fault is Fault.CRASH_MID_REKEY else COMMAND
    saves = fault is Fault.POWER_CUT
    making: AbstractContextManager[Scene]
    if kind is None:
        if witness:
            raise LabError("no third machine on loopback: run as root for network namespaces")
        making = on_loopback(directory, command=command, saves=saves)
    else:
        making = in_namespaces(directory, kind, witness=witness, command=command, saves=saves)
    begin = time.monotonic()

    def tell(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - begin:7.3f} s[/]  {text}", highlight=False)

    with making as scene:
        return play(scene, fault, tell, number=number)


def _plain(outcome: Outcome, kind: PeerKind | None) -> dict[str, Any]:
    peer = kind.value if kind is not None else "loopback"
    plain = {"peer": peer, "holds": outcome.holds, **msgspec.to_builtins(outcome)}
    return plain | {name: report._asdict() for name, report in (("a", outcome.a), ("b", outcome.b)) if report}


def _show(outcome: Outcome, console: Console) -> None:
    probes = Table("probes", "sent", "answered", "lost", "duplicates", "longest gap", "first answer after the fault")
    for name, report in (("A to B", outcome.a), ("B to A", outcome.b)):
        if report is not None:
            probes.add_row(name, *_cells(report))
    console.print(probes)
    if outcome.directions:
        numbers = Table("SPI", "direction", "sequence numbers before the fault", "after")
        for direction in outcome.directions:
            numbers.add_row(*_span_cells(direction))
        console.print(numbers)
    verdicts = Table("", "verdict", "found")
    for verdict in outcome.verdicts:
        mark = Text("holds", style="green") if verdict.holds else Text("FAILS", style="bold red")
        verdicts.add_row(mark, verdict.claim, verdict.found)
    console.print(verdicts)


def _cells(report: Report) -> list[str]:
    recovered = f"{report.recovered_s * 1000:.0f} ms" if report.recovered_s is not None else "never"
    counts = [report.sent, report.answered, report.lost, report.duplicates]
    return [*map(str, counts), f"{report.longest_gap_s * 1000:.0f} ms", recovered]


def _span_cells(direction: Direction) -> list[str]:
    spans = [f"{span[0]} to {span[1]}" if span else "-" for span in (direction.before, direction.after)]
    return [direction.spi, "from the cluster" if direction.outbound else "to the cluster", *spans]
