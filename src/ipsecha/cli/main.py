"""The ``ipsecha`` command.  Everything heavy is imported by the command that needs it: ``status`` stays quick."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from ipsecha import __version__
from ipsecha.cli import cluster, daemon
from ipsecha.cli.options import Json
from ipsecha.cli.output import emit, explain, print_problems, report

_LAB = "lab"
_LAB_MODULE = "ipsecha.lab.commands"


class Root(typer.core.TyperGroup):
    """Turns errors into one line and an exit code, and mounts ``lab`` when somebody asks for it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            code = explain(error, as_json=bool(ctx.meta.get(Json.META)))
            if code is None:
                raise
            raise typer.Exit(code) from None

    def list_commands(self, ctx: Any) -> list[str]:
        names = list(super().list_commands(ctx))
        return [*names, _LAB] if _LAB not in names and _lab_is_there() else names

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name == _LAB and _LAB not in self.commands and _lab_is_there():
            module = importlib.import_module(_LAB_MODULE)
            command: Any = typer.main.get_command(module.app)
            command.name, command.rich_help_panel = _LAB, "Lab"
            self.add_command(command, _LAB)
        return super().get_command(ctx, cmd_name)


def _lab_is_there() -> bool:
    return importlib.util.find_spec(_LAB_MODULE) is not None


app = typer.Typer(
    cls=Root,
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ipsecha {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """An IPsec gateway whose tunnels outlive the machine they run on.

    [bold]A first tunnel[/bold] (examples/ has the files):

      ipsecha check gateway.toml      look for mistakes, change nothing
      ipsecha run gateway.toml        run this member, as root
      ipsecha status                  how it is doing
      ipsecha sas                     its tunnels

    [bold]A pair of gateways:[/bold]

      ipsecha cluster init berlin alpha            on the first member
      ipsecha cluster invite beta --listen ADDR    there too; prints a token
      ipsecha cluster join --token TOKEN           on the second member
      ipsecha switchover                           move the tunnels over

    Exit codes: 0 ok, 1 failed, 2 wrong usage or configuration, 3 no daemon, 4 not protected (status --check).
    """


Config = Annotated[Path, typer.Argument(help="The member's file, such as alpha.toml.", show_default=False)]


@app.command("run", rich_help_panel="Gateway")
def run_gateway(config: Config) -> None:
    """Run this member in the foreground until it gets SIGTERM.

    Example: ipsecha run /etc/ipsecha/alpha.toml

    An active member hands its tunnels over to the other one before it ends.
    """
    from ipsecha.gateway.daemon import run as run_daemon

    raise typer.Exit(run_daemon(config))


@app.command(rich_help_panel="Gateway")
def check(
    file: Annotated[Path, typer.Argument(help="A policy, or a member's file (its policy is checked, too).")],
    no_secrets: Annotated[
        bool, typer.Option("--no-secrets", help="Do not look at keys and certificates (policy files only).")
    ] = False,
    as_json: Json.Option = False,
) -> None:
    """Look for mistakes in a configuration and change nothing.

    Examples:

      ipsecha check alpha.toml
      ipsecha check --no-secrets policy.toml     where the keys are not

    Every mistake is shown with its line, not only the first. Exit code 2 if there is one; warnings alone are 0.
    """
    from ipsecha.gateway.config import is_member_file, load_member, load_policy

    loaded: Any
    if not no_secrets and is_member_file(file):
        loaded = load_member(file)
        subject = f"member {loaded.member.name}"
    else:
        loaded = load_policy(file, skip_secrets=no_secrets)
        subject = "policy"
    connections = loaded.policy.connections
    children = sum(len(connection.children) for connection in connections)
    cluster_name = loaded.cluster.name if loaded.cluster is not None else None
    if as_json:
        emit({"ok": True, "connections": len(connections), "children": children, "problems": loaded.warnings})
        return
    print_problems(loaded.warnings)
    where = f"cluster {cluster_name}" if cluster_name else "single gateway"
    report(
        f"{file}: {subject} is good ({where}, {_count(len(connections), 'connection')}, {_count(children, 'child')})"
    )


def _count(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number} {'children' if noun == 'child' else noun + 's'}"


daemon.register(app)
app.add_typer(cluster.app, name="cluster", rich_help_panel="Cluster")


def run() -> None:
    """The entry point of the command line."""
    app(prog_name="ipsecha")
