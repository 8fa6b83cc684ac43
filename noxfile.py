"""The test-suite over Python and SDK versions: ``uvx nox``. Interpreters that are not installed are skipped."""

import nox

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests"]

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
SDKS = ["openai==1.99.0", "openai<2", "openai==2.0.0", "openai<3", "openai==3.0.0", "openai"]
TOOLS = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "test-tools")
NEIGHBOURS = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "neighbours")


def run(session: nox.Session, *requirements: str) -> None:
    session.install("-e", ".[demo,redis]", *TOOLS, *requirements)
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
