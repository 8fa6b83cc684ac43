"""What a type checker sees of the package."""

from __future__ import annotations

import ast
from pathlib import Path

import otel_ratelimit


def test_the_checked_file_names_everything_public() -> None:
    """A new public name is checked, or this fails."""
    tree = ast.parse((Path(__file__).parent / "api.py").read_text())
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    named |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert set(otel_ratelimit.__all__) <= named


def test_the_package_says_that_it_is_typed() -> None:
    """PEP 561."""
    assert (Path(otel_ratelimit.__file__).parent / "py.typed").exists()
