"""The witness's file: where it listens, whom it knows, where it keeps what it has promised."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from ipsecha.cluster.witness import NAME
from ipsecha.gateway import config_values as values
from ipsecha.gateway.config_cluster import MAX_MEMBERS
from ipsecha.gateway.config_problems import ProblemList
from ipsecha.gateway.config_secrets import SecretFiles, common_name
from ipsecha.gateway.config_source import read_source
from ipsecha.gateway.config_table import Table
from ipsecha.model.records import Address

DEFAULT_STATE = Path("/var/lib/ipsecha-witness/ledger.json")


class WitnessDaemonConfig(msgspec.Struct, frozen=True):
    cluster: str
    members: tuple[str, ...]
    listen: Address
    state: Path
    certificate: Path
    private_key: Path
    ca: Path


def load_witness(path: Path | str, *, wall_time: float | None = None) -> WitnessDaemonConfig:
    """Raises ConfigError (a PolicyError) with every problem of the file."""
    problems = ProblemList()
    source = read_source(Path(path), problems)
    problems.raise_if_failed()
    assert source is not None
    root = Table(source, problems)
    below = values.path_below(source.path.parent)
    cluster = root.require("cluster", values.name, 'the name of the cluster such as "berlin"')
    members = root.require_list("members", values.member_name, 'the names of the members such as ["alpha", "beta"]')
    listen = root.require("listen", values.endpoint, 'our address such as "192.0.2.50:4603"')
    state = root.get("state", below, DEFAULT_STATE)
    files = SecretFiles(source.path.parent, time.time() if wall_time is None else wall_time)
    _check_identity(root, files)
    paths = {key: root.get(key, below, Path()) for key in ("certificate", "private_key", "ca")}
    root.finish()
    if root.length("members") not in (0, *range(2, MAX_MEMBERS + 1)) or len(set(members)) != len(members):
        root.problem("members", "expected the two to four members of the cluster")
    problems.raise_if_failed()
    assert cluster is not None
    assert listen is not None
    return WitnessDaemonConfig(cluster, members, listen, state, **paths)


def _check_identity(root: Table, files: SecretFiles) -> None:
    chain = files.chain(root, "certificate")
    files.authorities(root, "ca")
    files.check_pair(root, chain, files.private_key(root, "private_key"))
    if chain is not None and common_name(chain[0]) != NAME:
        found = common_name(chain[0])
        root.problem("certificate", f'expected the certificate of the witness ("{NAME}"), found that of "{found}"')
