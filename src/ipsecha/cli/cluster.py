"""``ipsecha cluster``: the cluster's CA and the members' certificates."""

from __future__ import annotations

import asyncio
import datetime
from pathlib import Path
from typing import Annotated

import typer

from ipsecha.cli.options import DEFAULT_SOCKET, Json, Socket
from ipsecha.cli.output import console, emit, report
from ipsecha.model.errors import ClusterError

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

DEFAULT_DIRECTORY = Path("/etc/ipsecha")
Directory = Annotated[
    Path, typer.Option("--directory", "-d", help="Where ca.crt, NAME.crt and NAME.key are (or will be).")
]
Member = Annotated[str, typer.Argument(help=r"Name of the member, as in \[cluster] members.", show_default=False)]


@app.callback()
def cluster() -> None:
    """The members' certificates, the witness, and going on alone.

    Certificates are those by which the members know each other.

    [bold]By token[/bold], over the cluster link:

      alpha# ipsecha cluster init berlin alpha
      alpha# ipsecha cluster invite beta --listen 10.99.0.1:4602
      beta#  ipsecha cluster join --token ipsecha1-...

    [bold]By files[/bold], where the members cannot reach each other yet:

      beta#  ipsecha cluster join beta --request beta.csr
      alpha# ipsecha cluster sign beta.csr --output beta.bundle
      beta#  ipsecha cluster join beta --bundle beta.bundle

    [bold]A witness[/bold], on a third machine, gets its certificate in the same ways, under the name "witness".

    Private keys never leave the machine that they were made on.
    """


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="Name of the cluster.", show_default=False)],
    member: Member,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: Json.Option = False,
) -> None:
    """Make the cluster's CA and the certificate of the first member.

    Example: ipsecha cluster init berlin alpha
    """
    from ipsecha.gateway.pki import MemberFiles

    files = MemberFiles(directory)
    files.init(name, member, _now())
    _written(as_json, member, (files.ca, files.ca_key, files.certificate(member), files.private_key(member)))
    if not as_json:
        report("Keep a copy of ca.key in a safe place: with it, anybody can become a member.")


@app.command()
def invite(
    member: Member,
    listen: Annotated[str, typer.Option("--listen", "-l", help="Address and port on the cluster link.")],
    valid: Annotated[str, typer.Option("--valid", help="How long to wait, at most 1h.")] = "10m",
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: Json.Option = False,
) -> None:
    """Print a token that lets one member join once, and wait for it.

    Example: ipsecha cluster invite beta --listen 10.99.0.1:4602

    Carry the token to the other member by a way that nobody else can read.
    """
    from ipsecha.gateway import config_values as values
    from ipsecha.gateway.join import Invitation
    from ipsecha.gateway.pki import MemberFiles

    try:
        address, valid_s = values.endpoint(listen), values.duration(1.0, 3600.0)(valid)
    except values.Wrong as wrong:
        raise typer.BadParameter(wrong.text) from None
    invitation = Invitation(MemberFiles(directory), member, address, valid_s, _now)
    token = invitation.token.encode()
    if as_json:
        emit({"member": member, "token": token, "expires": invitation.token.expires})
    else:
        report(f"On {member}, within {valid}, run:")
        report(f"\n  ipsecha cluster join --token {token}\n")
    try:
        joined = asyncio.run(invitation.serve())
    except KeyboardInterrupt:
        joined = False
    if not joined:
        raise ClusterError(f"{member} has not joined: the token is void now")
    if not as_json:
        report(f"{member} has joined.")


@app.command()
def join(
    member: Annotated[str, typer.Argument(help="Name of this member (by files).", show_default=False)] = "",
    token: Annotated[str, typer.Option("--token", "-t", help="Token of ipsecha cluster invite.")] = "",
    request: Annotated[
        Path | None, typer.Option("--request", help="Write a request here; makes a key if there is none.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option("--bundle", help="Install what cluster sign has written.")] = None,
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: Json.Option = False,
) -> None:
    """Get this member's certificate, by token or by files.

    Examples:

      ipsecha cluster join --token ipsecha1-...
      ipsecha cluster join beta --request beta.csr
      ipsecha cluster join beta --bundle beta.bundle

    Both steps by files also renew a certificate, with the same key. Restart the member afterwards.
    """
    if sum((bool(token), request is not None, bundle is not None)) != 1:
        raise typer.BadParameter("expected one of --token, --request and --bundle")
    if bool(member) == bool(token):
        raise typer.BadParameter("expected the member's name with --request and --bundle; a token has it already")
    if token:
        _join_by_token(token, directory, as_json)
    elif request is not None:
        _write_request(member, request, directory, as_json)
    elif bundle is not None:
        _install_bundle(member, bundle, directory, as_json)


def _join_by_token(text: str, directory: Path, as_json: bool) -> None:
    from ipsecha.gateway import join as joining
    from ipsecha.gateway.pki import MemberFiles

    token, files = joining.decode_token(text), MemberFiles(directory)
    with console(error=True).status(f"joining the cluster {token.cluster} by {token.host}"):
        joining.join(token, files, _now())
    _written(as_json, token.member, (files.ca, files.certificate(token.member), files.private_key(token.member)))


def _write_request(member: str, path: Path, directory: Path, as_json: bool) -> None:
    from ipsecha.gateway import pki

    files = pki.MemberFiles(directory)
    key = files.private_key(member)
    known = pki.read_pem(key) if key.exists() else b""
    private_pem, request_pem = pki.create_request(member, known)
    if path.exists():
        raise ClusterError(f"{path} is there already: nothing was overwritten")
    files.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not known:
        pki.write_new(key, private_pem, secret=True)
    pki.write_new(path, request_pem)
    written = (path,) if known else (key, path)
    _written(as_json, member, written, pki.readable_fingerprint(pki.parse_request(request_pem)))


def _install_bundle(member: str, path: Path, directory: Path, as_json: bool) -> None:
    from ipsecha.gateway import pki

    files = pki.MemberFiles(directory)
    files.install(member, *pki.split_bundle(pki.read_pem(path)), _now())
    _written(as_json, member, (files.ca, files.certificate(member)))


@app.command()
def sign(
    request: Annotated[Path, typer.Argument(help="The request of ipsecha cluster join --request.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write certificate and CA.")],
    directory: Directory = DEFAULT_DIRECTORY,
    as_json: Json.Option = False,
) -> None:
    """Sign the request of another member, on the member that has ca.key.

    Example: ipsecha cluster sign beta.csr --output beta.bundle

    Compare the fingerprint with the one that join has shown on the other member.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    from ipsecha.gateway import pki

    authority = pki.MemberFiles(directory).authority()
    parsed = pki.parse_request(pki.read_pem(request))
    certificate = pki.issue(authority, parsed, _now())
    pki.write_new(output, certificate + authority.certificate.public_bytes(Encoding.PEM))
    _written(as_json, pki.requested_member(parsed), (output,), pki.readable_fingerprint(parsed))


@app.command()
def witness(
    config: Annotated[Path, typer.Option("--config", "-c", help="The witness's file.", show_default=False)],
) -> None:
    """Run the witness, on a third machine: a vote for a pair whose members cannot see each other.

    Example: ipsecha cluster witness --config /etc/ipsecha/witness.toml

    Its certificate comes from the cluster's CA, for the name "witness":

      alpha#   ipsecha cluster invite witness --listen 192.0.2.11:4602
      witness# ipsecha cluster join --token ipsecha1-...

    The members know it by \\[cluster] witness = "ADDRESS:PORT" in their policy.
    """
    from ipsecha.gateway.witness_server import run

    raise typer.Exit(run(config))


@app.command("serve-alone")
def serve_alone(
    yes: Annotated[bool, typer.Option("--yes", help="Yes, the other member serves nobody, and will not.")] = False,
    as_json: Json.Option = False,
    socket: Socket = Path(DEFAULT_SOCKET),
) -> None:
    """Let this member serve although nothing proves that the other one does not.

    Example: the other machine is off, and the witness cannot be reached

      ipsecha cluster serve-alone --yes

    Look first: two members that serve at once divide the traffic, and each may accept what the other has accepted.
    """
    from ipsecha.gateway.control import ControlClient
    from ipsecha.gateway.views import OutcomeView, from_answer

    if not yes:
        raise typer.BadParameter("is the other member really off? Say so with --yes", param_hint="--yes")
    with ControlClient(socket) as client:
        outcome = from_answer(client.request("serve-alone"), OutcomeView)
    if as_json:
        emit(outcome)
    else:
        report(outcome.text)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _written(as_json: bool, member: str, paths: tuple[Path, ...], fingerprint: str = "") -> None:
    if as_json:
        emit({"ok": True, "member": member, "files": [str(path) for path in paths], "fingerprint": fingerprint})
        return
    for path in paths:
        report(f"wrote {path}")
    if fingerprint:
        report(f"fingerprint of {member}'s key: {fingerprint}")
