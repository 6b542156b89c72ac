"""The configuration: a policy that all members share and a small file for each member (docs/configuration.md).

Every mistake is reported, not only the first: ``ConfigError.problems``.
"""

from __future__ import annotations

import time
from pathlib import Path

from ipsecha.crypto.credentials import ConnectionSecrets, Credentials
from ipsecha.gateway import config_values as values
from ipsecha.gateway.config_children import read_rules
from ipsecha.gateway.config_cluster import outer_addresses, read_cluster
from ipsecha.gateway.config_connections import read_connections
from ipsecha.gateway.config_member import policy_path, read_member
from ipsecha.gateway.config_model import (
    Acks,
    Alone,
    BeatPathConfig,
    ClusterAddress,
    ClusterConfig,
    ClusterLinkConfig,
    ClusterMode,
    CommitMode,
    ControlConfig,
    DeviceConfig,
    LoadedConfig,
    LoadedPolicy,
    MemberConfig,
    UdpInner,
)
from ipsecha.gateway.config_problems import ConfigError, ConfigProblem, ProblemList
from ipsecha.gateway.config_secrets import SecretFiles
from ipsecha.gateway.config_source import read_source
from ipsecha.gateway.config_table import Table
from ipsecha.model.errors import CryptoError
from ipsecha.model.policy import AfterFailover, IkeLimits, Policy

__all__ = [
    "Acks",
    "Alone",
    "BeatPathConfig",
    "ClusterAddress",
    "ClusterConfig",
    "ClusterLinkConfig",
    "ClusterMode",
    "CommitMode",
    "ConfigError",
    "ConfigProblem",
    "ControlConfig",
    "DeviceConfig",
    "LoadedConfig",
    "LoadedPolicy",
    "MemberConfig",
    "UdpInner",
    "is_member_file",
    "load_member",
    "load_policy",
]

_LIMITS = IkeLimits()


def load_member(path: Path | str, *, wall_time: float | None = None) -> LoadedConfig:
    """Read a member's file and the policy that it names, with all secrets.

    Raises ConfigError (a PolicyError) with every problem of both files.
    """
    path = Path(path)
    problems = ProblemList()
    source = read_source(path, problems)
    problems.raise_if_failed()
    assert source is not None
    root = Table(source, problems)
    now = time.time() if wall_time is None else wall_time
    policy_file = policy_path(root)
    policy = _read_policy(policy_file, problems, now, skip_secrets=False) if policy_file is not None else None
    cluster = policy.cluster if policy is not None else None
    if policy is None:
        problems.raise_if_failed()  # the member's file cannot be judged without it
    member = read_member(root, policy_file or Path(), cluster, SecretFiles(source.path.parent, now))
    problems.raise_if_failed()
    assert policy is not None
    assert member is not None
    return LoadedConfig(policy.policy, policy.credentials, cluster, member, problems.sorted())


def load_policy(path: Path | str, *, skip_secrets: bool = False, wall_time: float | None = None) -> LoadedPolicy:
    """Read a policy alone.  ``skip_secrets``: look at no secret files, as when the policy is checked elsewhere.

    Raises ConfigError (a PolicyError) with every problem.
    """
    problems = ProblemList()
    now = time.time() if wall_time is None else wall_time
    policy = _read_policy(Path(path), problems, now, skip_secrets=skip_secrets)
    problems.raise_if_failed()
    assert policy is not None
    return LoadedPolicy(policy.policy, policy.credentials, policy.cluster, problems.sorted())


def is_member_file(path: Path | str) -> bool:
    """Whether a file looks like a member's: it names a policy.  Raises ConfigError where it is no TOML."""
    problems = ProblemList()
    source = read_source(Path(path), problems)
    problems.raise_if_failed()
    assert source is not None
    return "policy" in source.data or ("connections" not in source.data and "name" in source.data)


def _read_policy(path: Path, problems: ProblemList, now: float, *, skip_secrets: bool) -> LoadedPolicy | None:
    source = read_source(path, problems)
    if source is None:
        return None
    root = Table(source, problems)
    cluster = read_cluster(root)
    files = SecretFiles(source.path.parent, now, skip=skip_secrets)
    read = read_connections(root, files, outer_addresses(cluster))
    after_failover = cluster.after_failover if cluster is not None else AfterFailover()
    policy = Policy(read.connections, read_rules(root), _read_limits(root), after_failover)
    root.finish()
    return LoadedPolicy(policy, _credentials(read.secrets, root), cluster)


def _credentials(secrets: dict[str, ConnectionSecrets], root: Table) -> Credentials:
    """The credentials; none at all where a problem has been found already, since nobody will use them."""
    try:
        return Credentials({} if root.problems.failed else secrets)
    except CryptoError as error:
        root.problem("connections", str(error))
        return Credentials({})


def _read_limits(root: Table) -> IkeLimits:
    table = root.table("limits")
    limits = IkeLimits(
        cookie_threshold=table.get("cookie_threshold", values.integer(0, 10**6), _LIMITS.cookie_threshold),
        half_open_limit=table.get("half_open_limit", values.integer(10, 10**7), _LIMITS.half_open_limit),
        half_open_s=table.get("half_open", values.duration(5.0, 600.0), _LIMITS.half_open_s),
        shared_half_open_per_s=table.get(
            "shared_half_open_per_s", values.integer(0, 10**5), _LIMITS.shared_half_open_per_s
        ),
    )
    table.finish()
    if limits.cookie_threshold >= limits.half_open_limit:
        table.problem("cookie_threshold", "expected fewer than half_open_limit, so that cookies come before refusals")
    return limits
