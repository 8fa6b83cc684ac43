"""The test-suite over Python and SDK versions, and every check that CI makes: ``uvx nox``, ``uvx nox --list``.

``.ci/run`` and ``.github/workflows`` call these sessions, so that what passes in one passes in the other. Interpreters that are
not installed are skipped.
"""

import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests"]

PYTHONS = ["3.10", "3.11", "3.12", "3.13", "3.14", "3.15"]
SDKS = ["openai==1.99.0", "openai<2", "openai==2.0.0", "openai<3", "openai==3.0.0", "openai"]
GROUPS = nox.project.load_toml("pyproject.toml")
TOOLS = nox.project.dependency_groups(GROUPS, "test-tools")
COLLECTOR = nox.project.dependency_groups(GROUPS, "collector")
TRANSPORTS = nox.project.dependency_groups(GROUPS, "transports")
NEIGHBOURS = nox.project.dependency_groups(GROUPS, "neighbours")

SDK_SUITE = ["azure-identity", "griffe", "httpx", "inline-snapshot", "nest-asyncio", "pillow", "pytest-asyncio"]
SDK_SUITE += ["pytest-timeout", "pytest-xdist", "pytest>=9", "rich", "trio"]
"""What the SDK's own tests import, from its development group."""

ACTIONLINT = "github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
COVERED = [
    "tests/unit",
    "tests/drivers",
    "tests/telemetry",
    "tests/stores",
    "tests/commands",
    "tests/testing",
    "tests/test_auto.py",
]
LEAST_COVERED = 95
"""Percent of lines and branches of the package, those included that run in the programs of ``otel-ratelimit run``."""


def sync(session: nox.Session, *groups: str) -> None:
    """The project with these dependency groups, in the session's own environment."""
    environment = {"UV_PROJECT_ENVIRONMENT": session.virtualenv.location}
    chosen = [f"--group={group}" for group in groups]
    session.run_install("uv", "sync", "--quiet", *chosen, env=environment)


def run(session: nox.Session, *requirements: str, paths: Sequence[str] = ()) -> None:
    """The test-suite, or these parts of it, with these requirements beside the tools of the tests."""
    session.install("-e", ".[demo,redis]", *TOOLS, *COLLECTOR, *TRANSPORTS, *requirements)
    session.run("python", "-m", "pytest", "-q", *(session.posargs or paths))


# --- what CI runs -----------------------------------------------------------------------------------------------------


@nox.session
def lint(session: nox.Session) -> None:
    """Lint, format, types, spelling."""
    sync(session, "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("codespell")


@nox.session
def workflows(session: nox.Session) -> None:
    """Hosted CI: its syntax, its expressions, its rights."""
    sync(session, "workflows")
    files = sorted(str(path) for path in Path(".github/workflows").glob("*.yml"))
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files)
    session.run("check-jsonschema", "--builtin-schema", "vendor.dependabot", ".github/dependabot.yml")
    session.run("zizmor", "--offline", "--quiet", "--pedantic", ".github")
    if shutil.which("go") is None:
        session.warn("Go is not installed: actionlint is skipped")
        return
    directory = str(session.cache_dir / "bin")
    session.run("go", "install", ACTIONLINT, external=True, silent=True, env={"GOBIN": str(Path(directory).absolute())})
    session.run(f"{directory}/actionlint", *files, external=True)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation's site, strictly."""
    sync(session, "docs")
    with tempfile.TemporaryDirectory() as site:
        session.run("mkdocs", "build", "--strict", "--quiet", "--site-dir", site, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def packages(session: nox.Session) -> None:
    """Wheel and sdist: built, their README rendered as the index would, each installed and used from elsewhere."""
    shutil.rmtree("dist", ignore_errors=True)
    session.run("uv", "build", "--quiet", "--out-dir", "dist", external=True)
    built = sorted(str(path.absolute()) for path in Path("dist").iterdir() if path.suffix in (".whl", ".gz"))
    session.run("uvx", "--quiet", "twine", "check", "--strict", *built, external=True)
    with zipfile.ZipFile(next(path for path in built if path.endswith(".whl"))) as wheel:
        metadata = wheel.read(next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))).decode()
    beside = re.findall(r"\]\((?!https?:|#)[^)]*\)", metadata)
    if beside:
        session.error(f"links of the README that lead nowhere on the package index: {beside}")
    program = str(Path("tests/typing/api.py").absolute())
    for package in built:
        session.run_install("uv", "venv", "--quiet", "--clear", session.virtualenv.location)
        session.install(f"{package}[openai,testing]", "mypy", "pyright[nodejs]")
        session.run_install("uv", "pip", "check", "--quiet", "--python", session.virtualenv.location)
        with tempfile.TemporaryDirectory() as elsewhere, session.chdir(elsewhere):
            shutil.copy(program, elsewhere)
            session.run("python", "-c", "import otel_ratelimit.auto, openai")
            session.run("python", "-m", "mypy", "--strict", "api.py")
            session.run("python", "-m", "pyright", "api.py")


@nox.session
def coverage(session: nox.Session) -> None:
    """Lines and branches of the package that its tests run, with a gate."""
    sync(session, "test", "coverage")
    options = [
        "--cov=otel_ratelimit",
        "--cov-branch",
        "--cov-report=term:skip-covered",
        f"--cov-fail-under={LEAST_COVERED}",
    ]
    session.run("python", "-m", "pytest", "-q", *options, *(session.posargs or COVERED))


@nox.session
def mutation(session: nox.Session) -> None:
    """Changes to the core that no unit test notices: an hour and more. The score is in docs/decisions/0091."""
    sync(session, "test", "mutation")
    session.run("mutmut", "run", *session.posargs)
    session.run("mutmut", "results")


@nox.session
def slow(session: nox.Session) -> None:
    """The chain with a real Collector (``collector-config/tools.sh`` brings it), worlds with many seeds, a type checker."""
    sync(session, "test", "lint")
    session.run("python", "-m", "pytest", "-q", "-m", "slow", *session.posargs)


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """The oldest of everything that is supported. The neighbours need a newer OpenTelemetry and stay away."""
    paths = ["tests/drivers", "tests/telemetry", "tests/test_auto.py"]
    run(session, "openai==1.99.0", "wrapt==1.17.0", "opentelemetry-instrumentation==0.60b0", paths=paths)


@nox.session
def frameworks(session: nox.Session) -> None:
    """Frameworks on top of the SDK, and the examples that need other people's packages."""
    sync(session, "test", "examples")
    chosen = "agent or langchain or notebook or fastapi or busy or celery"
    session.run("python", "-m", "pytest", "-q", "tests/examples", "-k", chosen)
    session.run("python", "-m", "pytest", "-q", "tests/frameworks")


@nox.session(python=False)
def dev(session: nox.Session) -> None:
    """A new clone made ready: the environment ``.venv`` with all tools, and the hooks of git."""
    session.run("uv", "sync", "--quiet", "--group", "dev")
    if Path(".git").exists() and not os.environ.get("CI"):
        session.run("uv", "run", "--quiet", "--group", "lint", "pre-commit", "install")
    session.run("uv", "run", "--quiet", "--group", "test", "pytest", "-q", "tests/unit")


# --- the matrix, and other people's packages ---------------------------------------------------------------------------


@nox.session(python=PYTHONS)
@nox.parametrize("sdk", SDKS)
def tests(session: nox.Session, sdk: str) -> None:
    """Every Python with every SDK."""
    run(session, *NEIGHBOURS, sdk)


@nox.session(python=PYTHONS[-1])
def newest(session: nox.Session) -> None:
    """The newest of everything."""
    run(session, *NEIGHBOURS)


@nox.session(python=PYTHONS[1])
def backends(session: nox.Session) -> None:
    """Other people's observability beside ours. No dependency group: their pins would bind everybody's environment."""
    session.install("-e", ".[testing]", *TOOLS, "logfire", "langfuse", "sentry-sdk", "ddtrace")
    session.run("python", "-m", "pytest", "-q", "tests/backends", *session.posargs)


@nox.session(python=PYTHONS[1])
@nox.parametrize(
    "packages", ["dspy instructor llama-index-llms-openai smolagents[openai] autogen-ext[openai] litellm", "crewai"]
)
def more_frameworks(session: nox.Session, packages: str) -> None:
    """Frameworks whose pins would bind everybody's environment; CrewAI's forbid the others'."""
    session.install("-e", ".[testing]", *TOOLS, *packages.split())
    session.run("python", "-m", "pytest", "-q", "tests/frameworks/test_more_frameworks.py", *session.posargs)


@nox.session(python=PYTHONS[1])
@nox.parametrize("sdk", SDKS)
def support(session: nox.Session, sdk: str) -> None:
    """Which features each SDK was seen to have; the last of these makes docs/reference/support.md."""
    session.install("-e", ".[demo]", *TOOLS, *TRANSPORTS, sdk)
    records = session.cache_dir / "support"
    environment = {"SUPPORT_RECORD": str(records)}
    session.run("python", "-m", "pytest", "-q", "tests/drivers", "-m", "feature", *session.posargs, env=environment)
    session.run("python", "-m", "tests.support", str(records))


@nox.session(python="3.13")
def sdk_suite(session: nox.Session) -> None:
    """The newest SDK's own tests, plain and with the plugin active: twenty minutes on two cores."""
    session.install("-e", ".[testing]", "openai[aiohttp,bedrock,datalib,realtime,voice_helpers]", "pip", *SDK_SUITE)
    session.run("python", "-m", "tests.sdk_suite", *session.posargs)
