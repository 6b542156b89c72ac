"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_SOCKET = "/run/ipsecha/control.sock"
_META = "ipsecha.json"


def _remember(context: typer.Context, wanted: bool) -> bool:
    """Errors are printed as JSON, too: whoever prints them finds the wish in the context."""
    context.meta[_META] = wanted
    return wanted


class Json:
    META = _META
    Option = Annotated[bool, typer.Option("--json", callback=_remember, help="Print JSON for scripts.")]


Socket = Annotated[
    Path,
    typer.Option(
        "--socket",
        "-s",
        envvar="IPSECHA_SOCKET",
        help="The daemon's control socket.",
        rich_help_panel="Daemon",
    ),
]
