"""One number for everything that both members must have read alike: comments and the order of keys do not count."""

from __future__ import annotations

import hashlib

import msgspec

from ipsecha.gateway.config_model import LoadedConfig

DIGEST_LENGTH = 16


def digest_of(config: LoadedConfig) -> bytes:
    """The policy, ``[cluster]`` and the secrets that peers see the effect of (shared secrets, certificates, CAs)."""
    read = msgspec.msgpack.encode([msgspec.to_builtins(config.policy), msgspec.to_builtins(config.cluster)])
    return hashlib.sha256(config.credentials.digest + read).digest()[:DIGEST_LENGTH]
