"""The measurements that need no privileges still measure what they say: they go by interfaces that change."""

from __future__ import annotations

import pytest

pytest.importorskip("bench", reason="bench/ lies beside the package: run pytest from the repository")

from bench import clients, takeover
from bench.figures import Figure, Goal
from bench.pairs import make_sas


def test_a_crowd_shakes_hands() -> None:
    responder = clients.new_responder()
    cost = clients.handshakes(responder, 70, lambda effects: None)
    assert cost.handshakes == 70
    assert len(responder.sas) == len(responder.child_index) == 70


def test_copies_of_sas_differ_in_what_must_differ() -> None:
    sas = list(make_sas(300, clients.NOW))
    assert len({sa.local_spi for sa in sas}) == len({sa.remote_id for sa in sas}) == 300
    assert len({child.spi_in for sa in sas for child in sa.children}) == 300


def test_a_backup_takes_over_and_forwards() -> None:
    assert takeover.measure(300).passed > 0


def test_goals() -> None:
    figure = Figure("CPU", 60, "us", "reference", 100, Goal(0.7))
    assert figure.ratio == pytest.approx(0.6)
    assert figure.goal is not None
    assert figure.goal.met(figure)
    assert not Goal(0.7, at_least=True).met(figure)
    assert Goal(60, "value").met(figure)
    assert not Goal(0.7).met(Figure("without a reference", 1, "us"))
