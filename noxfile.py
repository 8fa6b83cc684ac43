"""The test-suite over Python and SDK versions: ``uvx nox``. Interpreters that are not installed are skipped."""

import nox

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests"]

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
SDKS = ["openai==1.99.0", "openai<2", "openai==2.0.0", "openai<3", "openai==3.0.0", "openai"]
TOOLS = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "test-tools")
COLLECTOR = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "collector")
TRANSPORTS = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "transports")
NEIGHBOURS = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "neighbours")

SDK_SUITE = ["azure-identity", "griffe", "httpx", "inline-snapshot", "nest-asyncio", "pillow", "pytest-asyncio"]
SDK_SUITE += ["pytest-timeout", "pytest-xdist", "pytest>=9", "rich", "trio"]
"""What the SDK's own tests import, from its development group."""


def run(session: nox.Session, *requirements: str) -> None:
    session.install("-e", ".[demo,redis]", *TOOLS, *COLLECTOR, *TRANSPORTS, *requirements)
    session.run("python", "-m", "pytest", "-q", *session.posargs)


@nox.session(python=PYTHONS)
@nox.parametrize("sdk", SDKS)
def tests(session: nox.Session, sdk: str) -> None:
    """Every Python with every SDK."""
    run(session, *NEIGHBOURS, sdk)


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """The oldest of everything that is supported. The neighbours need a newer OpenTelemetry and stay away."""
    run(session, "openai==1.99.0", "wrapt==1.17.0", "opentelemetry-instrumentation==0.60b0")


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


@nox.session(python=PYTHONS[-1])
def sdk_suite(session: nox.Session) -> None:
    """The newest SDK's own tests, plain and with the plugin active: twenty minutes on two cores."""
    session.install("-e", ".[testing]", "openai[aiohttp,bedrock,datalib,realtime,voice_helpers]", "pip", *SDK_SUITE)
    session.run("python", "-m", "tests.sdk_suite", *session.posargs)
