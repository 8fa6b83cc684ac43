"""The documentation as data: pages, links, headings, code blocks. Read by a real Markdown parser, the one that rich brings."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]

_PARSER = MarkdownIt("commonmark").enable("table")


@dataclass(frozen=True)
class Block:
    """A fenced code block: its language, what else stands behind that (``title="before"``), and its text."""

    language: str
    rest: str
    text: str


@dataclass(frozen=True)
class Page:
    """One file."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    def tokens(self) -> list[Token]:
        return _PARSER.parse(self.text)

    def blocks(self) -> list[Block]:
        """Code blocks in order."""
        found = []
        for token in self.tokens():
            if token.type == "fence":
                language, _, rest = token.info.strip().partition(" ")
                found.append(Block(language, rest, token.content))
        return found

    def links(self) -> list[str]:
        """Targets of links and pictures."""
        inline = [child for token in self.tokens() for child in token.children or ()]
        targets = [token.attrGet("href") or token.attrGet("src") for token in inline]
        return [str(target) for target in targets if target]

    def anchors(self) -> set[str]:
        """What a link may name behind a #."""
        tokens = self.tokens()
        titles = [after.content for token, after in itertools.pairwise(tokens) if token.type == "heading_open"]
        return {anchor(title) for title in titles}


def anchor(title: str) -> str:
    """As GitHub and MkDocs make it of a heading, for the headings that are used here: letters, digits, blanks and hyphens."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower())).strip("-")


def pages() -> list[Page]:
    """Every Markdown file that a reader may meet."""
    paths = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
    ]
    return [Page(path, path.read_text("utf-8")) for path in sorted(paths)]
