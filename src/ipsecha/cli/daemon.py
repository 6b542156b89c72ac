"""Commands for a running daemon, over its control socket."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from ipsecha.cli.options import DEFAULT_SOCKET, Json, Socket
from ipsecha.cli.output import ExitCode, console, emit, print_warnings, report
from ipsecha.cli.sas_table import sas_renderable
from ipsecha.cli.status_table import is_protected, status_renderable
from ipsecha.gateway.control import ControlClient, ControlError
from ipsecha.gateway.views import OutcomeView, SasView, StatusView, V, from_answer

_SOCKET = Path(DEFAULT_SOCKET)
_MIN_WATCH_S = 0.2
_CHANGE_S = 300.0
"""A change may concern a hundred thousand SAs, some hundred in a turn of the daemon."""

Connection = Annotated[str, typer.Argument(help="Name of a connection.", show_default=False)]
MaybeConnection = Annotated[str, typer.Argument(help="Name of a connection.", show_default=False)]
Child = Annotated[str, typer.Option("--child", "-c", help="Name of one child only.", show_default=False)]
Spi = Annotated[
    str, typer.Option("--spi", help="One SA: 16 hexadecimal digits of an IKE SPI, or 8 of an inbound ESP or AH SPI.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    panels: dict[str, tuple[Callable[..., None], ...]] = {
        "Daemon": (status, reload, stop),
        "Tunnels": (sas, initiate, terminate, rekey),
        "Cluster": (switchover,),
    }
    for panel, commands in panels.items():
        for command in commands:
            app.command(rich_help_panel=panel)(command)


def status(
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 4 unless a failover now would keep the tunnels.")
    ] = False,
    watch: Annotated[float, typer.Option("--watch", "-w", help="Show it again every so many seconds.")] = 0.0,
    as_json: Json.Option = False,
    socket: Socket = _SOCKET,
) -> None:
    """Show how this member is doing: role, partner, protection, traffic.

    Examples:

      ipsecha status
      ipsecha status --watch 1
      ipsecha status --check || alarm      for monitoring
      ipsecha status --json | jq .cluster.role
    """
    with ControlClient(socket) as client:
        view = _ask(client, StatusView, "status")
        if as_json:
            emit(view)
        else:
            console().print(status_renderable(view))
        while watch and not as_json:
            time.sleep(max(watch, _MIN_WATCH_S))
            view = _ask(client, StatusView, "status")
            out = console()
            out.clear()
            out.print(status_renderable(view))
    if check and not is_protected(view):
        raise typer.Exit(ExitCode.UNPROTECTED)


def sas(
    connection: MaybeConnection = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many IKE SAs.")] = 50,
    offset: Annotated[int, typer.Option("--offset", min=0, help="Leave out so many first.")] = 0,
    as_json: Json.Option = False,
    socket: Socket = _SOCKET,
) -> None:
    """Show the IKE SAs with their child SAs, traffic and counter leases.

    Examples:

      ipsecha sas                 all of them
      ipsecha sas paris           those of one connection
      ipsecha sas --json | jq '.sas[].children[].spi_in'
    """
    with ControlClient(socket) as client:
        view = _ask_for_sas(client, connection, limit, offset)
    if as_json:
        emit(view)
    else:
        console().print(sas_renderable(view, offset))


def initiate(connection: Connection, child: Child = "", as_json: Json.Option = False, socket: Socket = _SOCKET) -> None:
    """Bring a connection up, or one of its children.

    Examples:

      ipsecha initiate paris
      ipsecha initiate paris --child lan
    """
    _change(socket, as_json, "initiate", connection=connection, child=child)


def terminate(
    connection: MaybeConnection = "",
    child: Child = "",
    spi: Spi = "",
    as_json: Json.Option = False,
    socket: Socket = _SOCKET,
) -> None:
    """Close all SAs of a connection, of one child, or one SA. The peer is told.

    Examples:

      ipsecha terminate paris
      ipsecha terminate paris --child lan
      ipsecha terminate --spi c1a2b3c4
    """
    _change(socket, as_json, "terminate", **_which(connection, child, spi))


def rekey(
    connection: MaybeConnection = "",
    child: Child = "",
    spi: Spi = "",
    as_json: Json.Option = False,
    socket: Socket = _SOCKET,
) -> None:
    """Replace keys: the IKE SAs of a connection, the child SAs of one child, or one SA. Traffic goes on.

    Examples:

      ipsecha rekey paris
      ipsecha rekey paris --child lan
      ipsecha rekey --spi 1122334455667788
    """
    _change(socket, as_json, "rekey", **_which(connection, child, spi))


def switchover(as_json: Json.Option = False, socket: Socket = _SOCKET) -> None:
    """Hand all tunnels over to the other member, without loss. Ask either; a mirror asks to be the owner.

    Example: before maintenance of the active member

      ipsecha switchover && reboot

    Exits with 0 when the tunnels have changed hands (asked on the standby, that one owns them then), else with 1.
    """
    _change(socket, as_json, "switchover")


def reload(as_json: Json.Option = False, socket: Socket = _SOCKET) -> None:
    """Read the configuration again. Tunnels stay up; those of connections that are gone from it are deleted.

    Example: ipsecha check alpha.toml && ipsecha reload

    A configuration with a mistake changes nothing.
    """
    _change(socket, as_json, "reload")


def stop(as_json: Json.Option = False, socket: Socket = _SOCKET) -> None:
    """End the daemon. An active member hands its tunnels over first.

    Example: ipsecha stop
    """
    _change(socket, as_json, "stop")


def _which(connection: str, child: str, spi: str) -> dict[str, str]:
    if bool(connection) == bool(spi) or (spi and child):
        raise typer.BadParameter("expected either the name of a connection (and perhaps --child), or --spi")
    spi = spi.lower().removeprefix("0x").removesuffix("_i").removesuffix("_r")
    if spi and (len(spi) not in (8, 16) or not all(digit in "0123456789abcdef" for digit in spi)):
        raise typer.BadParameter("an SPI has 16 hexadecimal digits (IKE) or 8 (ESP)", param_hint="--spi")
    return {"connection": connection, "child": child, "spi": spi}


def _change(socket: Path, as_json: bool, command: str, **arguments: Any) -> None:
    with ControlClient(socket, timeout_s=_CHANGE_S) as client:
        outcome = _ask(client, OutcomeView, command, **{key: value for key, value in arguments.items() if value})
    if as_json:
        emit(outcome)
        return
    print_warnings(outcome.warnings)
    report(outcome.text)


def _ask_for_sas(client: ControlClient, connection: str, limit: int, offset: int) -> SasView:
    """As many as are wanted, though one answer holds some hundred at most."""
    view = _ask(client, SasView, "sas", connection=connection, limit=limit, offset=offset)
    sas = view.sas
    while view.sas and len(sas) < min(limit, view.total - offset):
        more = {"limit": limit - len(sas), "offset": offset + len(sas)}
        view = _ask(client, SasView, "sas", connection=connection, **more)
        sas += view.sas
    return SasView(sas, view.total)


def _ask(client: ControlClient, kind: type[V], command: str, **arguments: Any) -> V:
    answer = client.request(command, **arguments)
    try:
        return from_answer(answer, kind)
    except msgspec.ValidationError as error:
        raise ControlError("malformed", f"the daemon speaks another language: {error}") from error
