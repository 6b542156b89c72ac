"""What every test shares: the markers ``root`` and ``peer`` skip where they must, and never on a complete machine."""

from __future__ import annotations

import functools
import os
from collections.abc import Generator

import pytest

from ipsecha.lab import namespaces, strongswan

NO_SKIPS = os.environ.get("CI") == "true" and os.geteuid() == 0
"""Continuous integration has root and all peers: there, what is skipped is not tested, and that is a failure."""

_no_root = functools.cache(namespaces.available)
_no_peer = functools.cache(strongswan.available)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite-scenarios", action="store_true", help="write the dialogues in tests/scenarios anew")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("root") and (reason := _no_root()):
        pytest.skip(reason)
    if item.get_closest_marker("peer") and (reason := _no_peer()):
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, although CI=true: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if NO_SKIPS and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"skipped, although CI=true: {report.longrepr}"
    return report
