"""The shape that the documentation promises: imports point one way, the core is pure, modules stay small."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import otel_ratelimit

ROOT = Path(otel_ratelimit.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if "testing" not in path.parts)

LAYERS = [  # a module may import from its own layer and from those below it
    ["auto", "__main__", "_commands"],
    [""],
    ["_instrumentor"],
    ["_setup", "_early", "_settings", "_drivers"],
    ["_telemetry", "_stores"],
    ["_guard", "_core", "_version"],
]

CORE_LAYERS = [  # the same inside the core
    ["call", "waits", "opening"],
    ["fleet"],
    ["queueing"],
    ["limiters"],
    ["parsing"],
    ["buckets"],
    ["events", "attempt", "cost"],
    ["policy"],
    ["amounts", "throttle", "store_url", "words"],
]


def layer_of(module: str) -> int:
    """Index of the layer of a dotted name below otel_ratelimit."""
    head = module.split(".")[1] if "." in module else ""
    return next(index for index, names in enumerate(LAYERS) if head in names)


def core_layer_of(module: str) -> int:
    """Index of the layer of a dotted name below otel_ratelimit._core."""
    head = module.split(".")[2]
    return next(index for index, names in enumerate(CORE_LAYERS) if head in names)


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, *, types: bool = True) -> set[str]:
    """Every module named in an import statement; ``from package import module`` counts as the module.

    Without ``types``: not what is imported for the type checker alone.
    """
    found: set[str] = set()
    tree = ast.parse(path.read_text())
    if not types:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            module = node.module or ""
            for alias in node.names:
                below = ROOT.parent / (f"{module}.{alias.name}".replace(".", "/"))
                is_module = below.with_suffix(".py").exists() or (below / "__init__.py").exists()
                found.add(f"{module}.{alias.name}" if is_module else module)
    return found


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_point_downward(path: Path) -> None:
    """A lower layer never knows a higher one."""
    own = layer_of(dotted(path))
    for name in imports_of(path):
        if name.split(".")[0] == "otel_ratelimit" and not name.startswith("otel_ratelimit.testing"):
            assert layer_of(name) >= own, f"{dotted(path)} imports {name}, which is above it"


@pytest.mark.parametrize(
    "path", [path for path in MODULES if "_core" in path.parts and dotted(path).count(".") > 1], ids=dotted
)
def test_imports_inside_the_core_point_downward(path: Path) -> None:
    """What decides knows what estimates, and what estimates knows what counts; never the other way round."""
    own = core_layer_of(dotted(path))
    for name in imports_of(path):
        if name.startswith("otel_ratelimit._core."):
            assert core_layer_of(name) >= own, f"{dotted(path)} imports {name}, which is above it"


def test_no_two_modules_need_each_other() -> None:
    """Not over others either; a type's name is no need."""
    modules = {dotted(path): imports_of(path, types=False) for path in MODULES}
    packages = {dotted(path) for path in MODULES if path.name == "__init__.py"}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " > ".join((*above[above.index(module) :], module))
        if module not in done:
            for name in modules.get(module, ()):
                if name not in packages:
                    visit(name, (*above, module))
            done.add(module)

    for module in modules:
        visit(module, ())


@pytest.mark.parametrize("path", [path for path in MODULES if "_core" in path.parts], ids=dotted)
def test_the_core_is_pure(path: Path) -> None:
    """Standard library only, and none of it that reads a clock, waits, locks or does I/O.

    ``time`` is allowed in ``parsing`` alone: the public parsers take the present moment where the caller gives none.
    """
    impure = {"threading", "asyncio", "socket", "os", "random", "select", "subprocess", "concurrent", "logging"}
    if "parsing" not in path.parts:
        impure.add("time")
    for name in imports_of(path):
        head = name.split(".")[0]
        if head == "otel_ratelimit":
            assert name.startswith("otel_ratelimit._core"), f"{dotted(path)} imports {name}"
        else:
            assert head in sys.stdlib_module_names, f"{dotted(path)} imports {name}"
            assert head not in impure, f"{dotted(path)} imports {name}"


def test_the_two_drivers_do_not_know_each_other() -> None:
    """What both need is elsewhere."""
    assert "otel_ratelimit._drivers.aio" not in imports_of(ROOT / "_drivers/sync.py")
    assert "otel_ratelimit._drivers.sync" not in imports_of(ROOT / "_drivers/aio.py")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=dotted)
def test_no_module_is_over_400_lines(path: Path) -> None:
    """Split by subject before that."""
    assert len(path.read_text().splitlines()) <= 400


def test_public_names_are_sorted_and_there() -> None:
    """``__all__`` is what the package has, no more and no less."""
    names = otel_ratelimit.__all__
    assert names == sorted(names)
    for name in names:
        assert getattr(otel_ratelimit, name) is not None
    public = {name for name in vars(otel_ratelimit) if name.isidentifier() and not name.startswith("_")}
    assert public - {"TYPE_CHECKING", "auto", "testing"} <= set(names)


def test_importing_the_package_does_not_import_the_sdk() -> None:
    """The SDK takes a second to import; only what patches it may pay for that."""
    import subprocess

    code = "import sys, otel_ratelimit; sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
