"""docs/configuration.md names every key that the configuration knows, and no other."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from ipsecha.gateway import config_table
from ipsecha.gateway.config import load_member
from ipsecha.gateway.config_proposals import parse_child, parse_ike
from ipsecha.model.proposals import ALGORITHM_TOKENS

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "configuration.md").read_text()


def asked_keys(folder: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every key that is looked for while the widest possible configuration is read."""
    asked: set[str] = set()
    original = config_table.Table.has

    def has(self: config_table.Table, key: str) -> bool:
        asked.add(key)
        return original(self, key)

    monkeypatch.setattr(config_table.Table, "has", has)
    (folder / "policy.toml").write_text(
        "[cluster]\nname='x'\nmembers=['a','b']\n[[cluster.addresses]]\naddress='192.0.2.1/24'\nlink='outer'\n"
        "[[rules]]\naction='discard'\n[connections.p]\nremote='any'\nauth='certificate'\nremote_auth='psk'\n"
        "[connections.p.children.c]\nlocal='10.0.0.0/8'\nremote='10.0.0.0/8'\n"
        "[connections.q]\nremote='any'\nauth='psk'\nremote_auth='certificate'\nremote_id='any'\n"
    )
    (folder / "member.toml").write_text(
        "name='a'\npolicy='policy.toml'\n[cluster]\nlisten='10.0.0.1:1'\n[cluster.beats.x]\nlocal='10.0.0.1:2'\n"
    )
    with pytest.raises(config_table.PolicyError):
        load_member(folder / "member.toml")
    return asked - {"a", "b", "p", "q", "c", "x"}


def test_every_key_is_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = set(re.findall(r"[a-z_]+", TEXT))
    missing = asked_keys(tmp_path, monkeypatch) - words
    assert not missing


def test_every_documented_algorithm_exists_and_the_other_way_round() -> None:
    section = TEXT[TEXT.index("## Algorithms") : TEXT.index("Several of one kind")]
    named = set(re.findall(r"`([a-z0-9]+)`", section))
    assert named == set(ALGORITHM_TOKENS)


def test_documented_toml_parses() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 3
    assert all(tomllib.loads(block) for block in blocks)


def test_documented_proposal() -> None:
    assert parse_ike("aes256gcm16-prfsha256-x25519").transforms
    assert parse_child("aes256gcm16-x25519-esn").transforms
