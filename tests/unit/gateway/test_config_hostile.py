"""Hostile and damaged files: whatever the text, there is a configuration or a ConfigError, never anything else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipsecha.gateway.config import ConfigError, load_member, load_policy
from ipsecha.gateway.config_problems import MAX_PROBLEMS

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
POLICIES = tuple(path.read_text() for path in sorted(EXAMPLES.glob("*/policy.toml")))
MEMBERS = tuple(path.read_text() for path in sorted(EXAMPLES.glob("*/*.toml")) if path.name != "policy.toml")
FRAGMENTS = (
    "=", "[", "]", "[[", "]]", "{", "}", '"', "'", '"""', "\\", "\n", "#", ",", ".", "\x00", "\x7f", "\u202e", "𝕏", "é",
    " = 1\n", "= true", "= []", "= {}", "= nan", "= inf", "= -1", "= 1e400", "= 1979-05-27", "[cluster]\n", "[links]\n",
    "[connections]\n", "[[connections]]\n", "[connections.x]\n", "[[rules]]\n", "children = 3\n",
    "99999999999999999999",
    "any", "never", "0.0.0.0/0", "::/0", "::ffff:1.2.3.4", "/dev/zero", "..", "a" * 300,
)  # fmt: skip

pytestmark = pytest.mark.filterwarnings("error")
relaxed = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def damaged(draw: Any, texts: tuple[str, ...]) -> str:
    """A good text with pieces cut out, repeated, put elsewhere, and fragments strewn in."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 40)))
        piece = draw(st.sampled_from([*FRAGMENTS, "", text[start:end] * 2, text[end : end + 30]]))
        text = text[:start] + piece + text[end:]
    return text


@st.composite
def replaced_values(draw: Any, texts: tuple[str, ...]) -> str:
    """A good text in which some values are others': valid TOML more often than not."""
    values = [line.partition("=")[2] for text in texts for line in text.splitlines() if "=" in line]
    strange = [
        "5",
        "-0.0",
        "nan",
        "true",
        "[]",
        "{}",
        '""',
        "[[1]]",
        '{ a = "b" }',
        "07:32:00",
        "[1, 'x', {}]",
        '"\\u0000"',
    ]
    lines = draw(st.sampled_from(texts)).splitlines()
    for _ in range(draw(st.integers(1, 5))):
        position = draw(st.integers(0, len(lines) - 1))
        key, equals, _value = lines[position].partition("=")
        if equals:
            lines[position] = f"{key}= {draw(st.sampled_from(values + strange))}"
    return "\n".join(lines)


def check(path: Path, content: bytes, load: Callable[[Path], object]) -> None:
    path.write_bytes(content)
    try:
        load(path)
    except ConfigError as error:
        problems = error.problems
    else:
        problems = ()
    assert len(problems) <= MAX_PROBLEMS
    for problem in problems:
        assert str(problem).isprintable()
        written = content if problem.file == str(path) else (path.parent / "policy.toml").read_bytes()
        assert 0 <= problem.line <= written.count(b"\n") + 1
        assert len(str(problem)) < 3000


def policy_without_secrets(path: Path) -> object:
    return load_policy(path, skip_secrets=True)


@relaxed
@given(text=st.one_of(damaged(POLICIES), replaced_values(POLICIES)))
def test_damaged_policies(tmp_path: Path, text: str) -> None:
    check(tmp_path / "policy.toml", text.encode(), policy_without_secrets)
    check(tmp_path / "policy.toml", text.encode(), load_policy)


@relaxed
@given(text=st.one_of(damaged(MEMBERS), replaced_values(MEMBERS)), policy=st.sampled_from(POLICIES))
def test_damaged_member_files(tmp_path: Path, text: str, policy: str) -> None:
    (tmp_path / "policy.toml").write_text(policy)
    check(tmp_path / "member.toml", text.encode(), load_member)


@relaxed
@given(content=st.binary(max_size=200))
def test_any_octets(tmp_path: Path, content: bytes) -> None:
    check(tmp_path / "policy.toml", content, load_policy)
    check(tmp_path / "member.toml", content, load_member)


@relaxed
@given(content=st.one_of(st.binary(max_size=300), st.binary(max_size=80).map(lambda data: b"-----BEGIN " + data)))
def test_any_octets_as_secrets(tmp_path: Path, content: bytes) -> None:
    text = (EXAMPLES / "certificates" / "policy.toml").read_text()
    for name in ("berlin.crt", "berlin.key", "example-ca.crt"):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
    check(tmp_path / "policy.toml", text.encode(), load_policy)


def test_secrets_that_are_devices(tmp_path: Path) -> None:
    text = (EXAMPLES / "single-psk" / "policy.toml").read_text().replace("paris.psk", "/dev/zero")
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="/dev/zero"):
        load_policy(path)
