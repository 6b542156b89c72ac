"""The command: ``python -m bench [--quick] [--json FILE] [TOPIC ...]``."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench import busy, channel, in_process, joining, responders, takeover, throughput
from bench.figures import Context, Figure, Topic
from bench.report import as_json, show
from ipsecha.lab.processes import LabError

WIDTH = 120

TOPICS: tuple[Topic, ...] = (
    in_process.TOPIC,
    responders.TOPIC,
    takeover.TOPIC,
    joining.TOPIC,
    channel.TOPIC,
    busy.TOPIC,
    throughput.TOPIC,
)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    known = "\n".join(f"  {topic.name:<12}{topic.title}" for topic in TOPICS)
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures ipsecha beside named references in the same run; the ratios are what counts.",
        epilog=f"topics:\n{known}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help="what to measure (all)")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: minutes become seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures as JSON too ('-': instead of the table)")
    chosen = parser.parse_args(argv)
    unknown = set(chosen.topics) - {topic.name for topic in TOPICS}
    if unknown:
        parser.error(f"unknown topic {', '.join(sorted(unknown))}; there are {', '.join(t.name for t in TOPICS)}")
    return chosen


def _progress(console: Console) -> Progress:
    columns = TextColumn("{task.fields[topic]:<12}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, TextColumn("{task.description}"), console=console)


def _run(topic: Topic, progress: Progress, directory: Path, quick: bool) -> list[Figure]:
    task = progress.add_task("", total=topic.steps(quick), topic=topic.name)
    done = -1

    def step(text: str) -> None:
        nonlocal done
        done += 1
        progress.update(task, completed=done, description=text)

    figures = topic.run(Context(directory, quick, step))
    progress.update(task, completed=topic.steps(quick), description="")
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 where a goal was missed or a measurement failed."""
    chosen = _arguments(argv)
    logging.getLogger("ipsecha").setLevel(logging.ERROR)
    console = Console(stderr=True)
    results: list[tuple[Topic, list[Figure]]] = []
    left_out: list[tuple[str, str]] = []
    failed = False
    with _progress(console) as progress, tempfile.TemporaryDirectory(prefix="ipsecha-bench-") as directory:
        for topic in TOPICS:
            if chosen.topics and topic.name not in chosen.topics:
                continue
            reason = topic.missing()
            if reason is None:
                own = Path(directory, topic.name)
                own.mkdir()
                try:
                    results.append((topic, _run(topic, progress, own, chosen.quick)))
                except LabError as error:
                    failed, reason = True, f"failed: {error}"
            if reason is not None:
                left_out.append((topic.name, reason))
    missed = any(figure.goal is not None and not figure.goal.met(figure) for _, found in results for figure in found)
    _tell(results, left_out, chosen.json)
    return 1 if failed or missed else 0


def _tell(results: list[tuple[Topic, list[Figure]]], left_out: list[tuple[str, str]], target: Path | None) -> None:
    if target is not None and str(target) == "-":
        sys.stdout.write(as_json(results, left_out).decode() + "\n")
        return
    console = Console()
    show(console if console.is_terminal else Console(width=WIDTH), results, left_out)
    if target is not None:
        target.write_bytes(as_json(results, left_out) + b"\n")


if __name__ == "__main__":
    sys.exit(main())
