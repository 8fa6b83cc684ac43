"""The test-suite over Python and SDK versions: ``uvx nox``. Interpreters that are not installed are skipped."""

import nox

nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests"]

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
SDKS = ["openai==1.99.0", "openai<2", "openai==2.0.0", "openai<3", "openai==3.0.0", "openai"]
GROUP = nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "test")


def run(session: nox.Session, *requirements: str) -> None:
    session.install("-e", ".[demo]", *(name for name in GROUP if not name.startswith("otel-ratelimit")), *requirements)
    session.run("python", "-m", "pytest", "-q", *session.posargs)


@nox.session(python=PYTHONS)
@nox.parametrize("sdk", SDKS)
def tests(session: nox.Session, sdk: str) -> None:
    """Every Python with every SDK."""
    run(session, sdk)


@nox.session(python=PYTHONS[0])
def oldest(session: nox.Session) -> None:
    """The oldest of everything that is supported."""
    run(session, "openai==1.99.0", "wrapt==1.17.0", "opentelemetry-instrumentation==0.60b0")


@nox.session(python=PYTHONS[-1])
def newest(session: nox.Session) -> None:
    """The newest of everything, pre-releases aside."""
    run(session, "--upgrade", "openai")
