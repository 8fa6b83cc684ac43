"""Whether a program instruments: read from its source, never run. A linter may have deleted the one import that did."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from otel_ratelimit._commands.doctor.check import Check

AREA: Final = "program"

AUTO: Final = "import otel_ratelimit.auto  # noqa: F401"
"""The import in the form that linters leave alone: ruff, autoflake and pycln delete what nothing refers to."""

_MOST: Final = 5000
"""Files that are read; a folder with more is not one program."""

_SKIPPED: Final = frozenset(("site-packages", "node_modules", "__pycache__", "build", "dist"))


class Findings(NamedTuple):
    """Line numbers in one file, 0 where it does not do that.

    Attributes:
        openai: imports ``openai``.
        package: imports something of ``otel_ratelimit``.
        auto: imports ``otel_ratelimit.auto``.
        call: calls ``instrument``.
        kept: ``auto`` stands in a form that no linter deletes.
    """

    openai: int = 0
    package: int = 0
    auto: int = 0
    call: int = 0
    kept: bool = True


def check(path: Path) -> Iterator[Check]:
    """A file, or a folder with all that is in it."""
    if not path.exists():
        yield Check(AREA, "failure", f"{path} does not exist")
        return
    found: dict[Path, Findings] = {}
    for file in _files(path):
        try:
            found[file] = read(file.read_text("utf-8", "replace"))
        except (OSError, SyntaxError, ValueError, RecursionError) as error:
            yield Check(AREA, "note", f"{file} cannot be read: {type(error).__name__}")
    if not found:
        yield Check(AREA, "warning", f"no Python in {path}")
        return
    yield from _judge(path, found)


def _judge(path: Path, found: dict[Path, Findings]) -> Iterator[Check]:
    installing = False
    for file, one in found.items():
        if one.auto:
            installing = True
            if one.kept:
                yield Check(AREA, "ok", f"{file}:{one.auto} imports otel_ratelimit.auto")
            else:
                yield Check(
                    AREA,
                    "warning",
                    f"{file}:{one.auto} imports otel_ratelimit.auto, and linters delete an import that nothing uses",
                    f"write it as: {AUTO}",
                )
        if one.call:
            installing = True
            yield Check(AREA, "ok", f"{file}:{one.call} calls instrument()")
    if installing:
        return
    users = [(file, one.package) for file, one in found.items() if one.package]
    if users:
        file, line = users[0]
        yield Check(
            AREA,
            "failure",
            f"{file}:{line} imports otel_ratelimit, but nothing in {path} instruments: no call waits",
            f"{AUTO}, or otel_ratelimit.instrument(), or start it with opentelemetry-instrument",
        )
    elif any(one.openai for one in found.values()):
        yield Check(
            AREA,
            "warning",
            f"nothing in {path} instruments: calls wait only if it is started with opentelemetry-instrument",
            f"or add: {AUTO}",
        )
    else:
        yield Check(AREA, "note", f"nothing in {path} imports openai or otel_ratelimit")


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    count = 0
    for file in sorted(path.rglob("*.py")):
        parts = file.relative_to(path).parts
        if any(part in _SKIPPED or part.startswith(".") or (path / part / "pyvenv.cfg").exists() for part in parts):
            continue
        count += 1
        if count > _MOST:
            return
        yield file


def read(source: str) -> Findings:
    """What one file does.

    Raises:
        SyntaxError, ValueError: it is no Python.
    """
    tree = ast.parse(source)
    lines: dict[str, int] = {}  # of the first import of each module
    roots = {"otel_ratelimit"}  # names from which the file reaches `instrument`
    functions: set[str] = set()  # names by which it calls it
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                lines.setdefault(alias.name, node.lineno)
                if alias.name == "otel_ratelimit" and alias.asname:
                    roots.add(alias.asname)
        elif isinstance(node, ast.ImportFrom) and node.module:
            lines.setdefault(node.module, node.lineno)
            for alias in node.names if node.module == "otel_ratelimit" else ():
                lines.setdefault(f"otel_ratelimit.{alias.name}", node.lineno)
                if alias.name == "instrument":
                    functions.add(alias.asname or alias.name)
                elif alias.name == "RateLimitInstrumentor":
                    roots.add(alias.asname or alias.name)
    openai = _first(lines, "openai")
    package = _first(lines, "otel_ratelimit")
    auto = lines.get("otel_ratelimit.auto", 0)
    call = 0
    for node in ast.walk(tree) if package else ():
        if isinstance(node, ast.Call):
            words = re.findall(r"\w+", ast.unparse(node.func))
            if words and (
                (words[0] in roots and words[-1] == "instrument") or (len(words) == 1 and words[0] in functions)
            ):
                call = call or node.lineno
    return Findings(openai, package, auto, call, not auto or _is_kept(source, auto))


def _first(lines: Mapping[str, int], package: str) -> int:
    """The line of the first import of a package or of something in it; 0 where there is none."""
    return min((line for module, line in lines.items() if module.partition(".")[0] == package), default=0)


def _is_kept(source: str, number: int) -> bool:
    if re.search(r"#\s*noqa(?!:)|#\s*noqa:.*\bF401\b", source.splitlines()[number - 1]):
        return True
    # `import otel_ratelimit.auto` is in use where something else of the package is reached by that name.
    return bool(re.search(r"\botel_ratelimit\.(?!auto\b)\w+", re.sub(r"(?m)^\s*(import|from)\s.*$", "", source)))
