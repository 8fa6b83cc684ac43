"""The documentation says what is: links resolve, options and settings exist, snippets run."""

from __future__ import annotations

import argparse
import ast
import importlib.util
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import otel_ratelimit
from otel_ratelimit.__main__ import COMMANDS, main, parser
from otel_ratelimit._commands.doctor.environment import known_variables
from otel_ratelimit._commands.run.child import DIRECTORY
from otel_ratelimit._settings import VARIABLES
from otel_ratelimit.testing import Limit, ThrottlingServer
from tests.docs.pages import ROOT, Page, pages

PAGES = {page.name: page for page in pages()}
TESTED_ELSEWHERE = {
    "docs/how-to/test-your-program.md",  # tests/testing/test_docs.py runs it as a test module
    "docs/how-to/web-services.md",  # tests/examples/test_web_services.py serves requests with it
}

# The two commands that others copy from the README: to the letter.
DEMO = "pip install uv && uv run --extra demo otel-ratelimit demo"
TESTS = "pip install uv && uv run --group test pytest"


def test_the_readmes_two_commands_are_unchanged() -> None:
    """CI, and others, take them from there."""
    commands = [
        line for block in PAGES["README.md"].blocks() if block.language == "console" for line in block.text.splitlines()
    ]
    assert commands[:2] == [DEMO, TESTS]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_links_lead_somewhere(page: Page) -> None:
    """Files, pictures and anchors; of other hosts only that they are named with https."""
    for link in page.links():
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        target, _, anchor = link.partition("#")
        path = (page.path.parent / target).resolve() if target else page.path
        assert path.exists(), f"{page.name}: {link}"
        if anchor and path.suffix == ".md":
            assert anchor in PAGES[path.relative_to(ROOT).as_posix()].anchors(), f"{page.name}: {link}"


def test_pictures_are_small_and_used() -> None:
    """None over 150 KB, none that no page shows, none that loads anything from elsewhere."""
    shown = {
        (page.path.parent / link).resolve() for page in PAGES.values() for link in page.links() if "images/" in link
    }
    for picture in (ROOT / "docs" / "images").iterdir():
        assert picture in shown, f"{picture.name} is on no page"
        assert picture.stat().st_size <= 150_000, picture.name
        if picture.suffix == ".svg":
            assert not re.search(r"(?:href|src|url\()[\"'=\s]*https?://", picture.read_text("utf-8")), picture.name


# --- settings and options ---------------------------------------------------------------------------------------------


def test_every_variable_that_is_named_exists() -> None:
    """Ours, and OpenTelemetry's as the SDK itself lists them."""
    known = known_variables() | {*VARIABLES, DIRECTORY, "OTEL_CONFIG_FILE"}
    for page in PAGES.values():
        for name in set(re.findall(r"\bOTEL_[A-Z_]+\b", page.text)):
            if not name.startswith(("OTEL_PYTHON_", "OTEL_SEMCONV_")):
                begins = name.endswith("_") and any(one.startswith(name) for one in known)
                assert begins or name in known, f"{page.name}: {name}"


def subcommands() -> dict[str, argparse.ArgumentParser]:
    (action,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(action.choices)


def options_of(command: argparse.ArgumentParser) -> set[str]:
    return {option for action in command._actions for option in action.option_strings if option.startswith("--")}


def test_the_command_line_page_names_every_option_and_no_other() -> None:
    """A section for each command, a row for each option."""
    page = PAGES["docs/reference/command-line.md"].text
    head, *sections = re.split(r"^## ", page, flags=re.MULTILINE)
    documented = {
        section.split("\n")[0]: set(re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE)) for section in sections
    }
    assert set(re.findall(r"^\| `(--[a-z-]+)", head, re.MULTILINE)) == options_of(parser())
    commands = subcommands()
    assert set(commands) == set(COMMANDS) <= set(documented)
    for name, command in commands.items():
        assert documented[name] == options_of(command) - {"--help"}, name


def commands_of(page: Page) -> list[list[str]]:
    """The commands in the console blocks, as words; ``a && b`` and ``a | b`` are two."""
    found = []
    for block in page.blocks():
        if block.language != "console":
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="&|")
            lexer.whitespace_split = True
            words: list[str] = []
            for word in [*lexer, "&&"]:
                if word in ("&&", "|"):
                    found.append(words)
                    words = []
                else:
                    words.append(word)
    return [words for words in found if words]


PROGRAMS = {
    "otel-ratelimit", "pip", "uv", "python", "export", ".", "pbpaste", "celery", "bash", "opentelemetry-instrument",
    "docker", "curl", "kubectl", "gunicorn", "uvicorn", "promtool", "jaeger", "git", "cd", "uvx",
}  # fmt: skip


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_commands_are_such(page: Page) -> None:
    """Each begins with a program that is meant to be there; ours are parsed by the real parser; files that they name exist."""
    for words in commands_of(page):
        program, *arguments = itertools.dropwhile(lambda word: re.match(r"[A-Z_]+=", word), words)
        assert program in PROGRAMS, f"{page.name}: {words}"
        if program == "otel-ratelimit":
            parser().parse_args(arguments)
        for word in words:
            if word.startswith(("examples/", "docs/", "tests/")):
                assert (ROOT / word).exists(), f"{page.name}: {word}"


def test_what_explain_says_in_the_tutorial(capsys: pytest.CaptureFixture[str]) -> None:
    """The command is run, and its output begins as the page shows."""
    page = PAGES["docs/tutorial/first-throttled-call.md"]
    (command,) = (words for words in commands_of(page) if words[:2] == ["otel-ratelimit", "explain"])
    (shown,) = (block.text for block in page.blocks() if block.text.startswith("429: "))
    assert main(command[1:]) == 0
    assert capsys.readouterr().out.startswith(shown)


# --- Python -----------------------------------------------------------------------------------------------------------

WITH_SNIPPETS = [page for page in PAGES.values() if any(block.language == "python" for block in page.blocks())]


@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=lambda page: page.name)
def test_snippets_compile(page: Page) -> None:
    """All of them, those too that show what is left behind (and may return outside of a function)."""
    for block in page.blocks():
        if block.language == "python":
            indented = "".join(f"    {line}" for line in block.text.splitlines(keepends=True))
            ast.parse(f"async def snippet():\n{indented}")


@pytest.mark.parametrize(
    "page", [page for page in WITH_SNIPPETS if page.name not in TESTED_ELSEWHERE], ids=lambda page: page.name
)
def test_snippets_run(page: Page, tmp_path: Path) -> None:
    """In the order of the page, as one program, against the test server."""
    snippets = [block.text for block in page.blocks() if block.language == "python" and block.rest != 'title="before"']
    code = "\n".join(snippets)
    imported = {name.split(".")[0] for name in re.findall(r"^(?:import|from) ([\w.]+)", code, re.MULTILINE)}
    missing = sorted(name for name in imported if importlib.util.find_spec(name) is None)
    if missing:
        pytest.skip(f"the page's snippets need {', '.join(missing)}")
    program = tmp_path / "snippets.py"
    program.write_text(code)
    with ThrottlingServer([Limit("tokens", 100_000)]) as server:
        done = subprocess.run(
            [sys.executable, program],
            env={**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "test"},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    if page.name == "docs/tutorial/first-throttled-call.md":
        assert done.stdout == "60 answered, 0 failed\n"


@pytest.mark.parametrize("page", WITH_SNIPPETS, ids=lambda page: page.name)
def test_no_linter_deletes_the_import(page: Page) -> None:
    """A snippet is copied as it stands, and ``ruff check --fix`` takes out imports that nothing refers to."""
    for block in page.blocks():
        if block.language == "python":
            ours = [line for line in block.text.splitlines() if line.strip().startswith("import otel_ratelimit.auto")]
            assert all("# noqa: F401" in line for line in ours), f"{page.name}: {ours}"


def test_the_python_page_names_every_public_name_and_no_other() -> None:
    """``import otel_ratelimit.auto`` stands beside them."""
    page = PAGES["docs/reference/python.md"].text
    documented = set(re.findall(r"^\| `(\w+)", page, re.MULTILINE))
    assert documented - {"import"} == set(otel_ratelimit.__all__)


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_issue_templates_ask_for_the_doctor() -> None:
    """Every form, by the command's real name and option."""
    forms = [path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.name != "config.yml"]
    assert len(forms) >= 2
    for form in forms:
        assert "otel-ratelimit doctor --json" in form.read_text("utf-8"), form.name
        for options in re.findall(r"otel-ratelimit ((?:doctor|explain) --\w+)", form.read_text("utf-8")):
            parser().parse_args(options.split())


def test_issue_templates_are_forms() -> None:
    """Valid YAML with the keys that a form must have."""
    yaml = pytest.importorskip("yaml")
    for form in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        document = yaml.safe_load(form.read_text("utf-8"))
        if form.name != "config.yml":
            assert {"name", "description", "body"} <= document.keys()
            assert all({"type", "attributes"} <= field.keys() for field in document["body"])


def test_the_changelog_keeps_its_form() -> None:
    """Keep a Changelog: the newest changes on top, in the headings of the standard."""
    text = PAGES["CHANGELOG.md"].text
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert re.search(r"^## (?:Unreleased|\[?\d)", text, re.MULTILINE)


def test_help_of_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """One line in the overview, a page of its own."""
    for name, command in COMMANDS.items():
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert f"usage: otel-ratelimit {name}" in capsys.readouterr().out
        assert command.HELP
    assert json.dumps(sorted(COMMANDS))
