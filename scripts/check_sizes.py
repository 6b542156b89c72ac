"""Fails where a file has more than 450 lines or a function 60 or more: then it is time to cut it in two."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

FILE_LINES = 450
FUNCTION_LINES = 60
FOLDERS = ("src", "bench", "scripts", "tests")


def findings(path: Path) -> Iterator[str]:
    """What is too long in one file."""
    text = path.read_text()
    lines = text.count("\n")
    if lines > FILE_LINES:
        yield f"{path}: {lines} lines (at most {FILE_LINES})"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if length >= FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines (fewer than {FUNCTION_LINES})"


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    files = [path for folder in FOLDERS for path in sorted((root / folder).rglob("*.py"))]
    found = [finding for path in files for finding in findings(path)]
    sys.stdout.write("".join(f"{finding}\n" for finding in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
