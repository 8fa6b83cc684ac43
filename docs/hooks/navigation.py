"""The site's navigation: the sections in the order in which a reader needs them; in each, the pages that come first, then the
rest by name. A new page needs no entry here."""

from pathlib import Path
from typing import Any

SECTIONS = {
    "Tutorial": ("tutorial", ["first-throttled-call.md"]),
    "How to": (
        "how-to",
        [
            "recipes.md",
            "migrate.md",
            "tune.md",
            "web-services.md",
            "know-while-it-happens.md",
            "test-your-program.md",
            "view-in-jaeger.md",
            "alert.md",
        ],
    ),
    "Reference": ("reference", ["settings.md", "telemetry.md", "command-line.md", "python.md"]),
    "Explanation": ("explanation", ["waiting-together.md", "how-it-works.md", "alternatives.md"]),
    "Decisions": ("decisions", []),
}


def on_config(config: Any) -> Any:
    """Called by MkDocs when it has read mkdocs.yml."""
    docs = Path(config["docs_dir"])
    config["nav"] = [
        "index.md",
        *(
            {title: [f"{folder}/{name}" for name in _in_order(docs / folder, first)]}
            for title, (folder, first) in SECTIONS.items()
        ),
        "troubleshooting.md",
        "changelog.md",
    ]
    return config


def _in_order(folder: Path, first: list[str]) -> list[str]:
    names = {path.name for path in folder.glob("*.md")}
    return [name for name in first if name in names] + sorted(names - set(first))
