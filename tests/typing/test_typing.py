"""What a type checker sees of the package."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.slow
def test_a_name_that_is_not_there_is_a_type_error(tmp_path: Path) -> None:
    """A mistyped name is found before it runs; one that is made on demand is there."""
    pytest.importorskip("mypy")
    program = tmp_path / "program.py"
    program.write_text("import otel_ratelimit\notel_ratelimit.nosuch\notel_ratelimit.AdmissionTimeoutError\n")
    root = Path(otel_ratelimit.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", tmp_path / "cache", program],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert 'program.py:2: error: Module has no attribute "nosuch"' in done.stdout
    assert "program.py:3" not in done.stdout
