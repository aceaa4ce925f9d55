"""A hook of mkdocs: README and CHANGELOG are pages too, and links that leave docs/ become plain words.

The pages are written to be read in the repository, where such links work.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {"index.md": "README.md", "changelog.md": "CHANGELOG.md"}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand outside docs/, with their links seen from there."""
    for name, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8").replace("](docs/", "](")
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: Any, files: Files) -> str:  # noqa: ARG001
    """Keep the words of a link whose target is no page of the site."""
    here = Path("/", page.file.src_uri).parent

    def link(found: re.Match[str]) -> str:
        target = found[2].partition("#")[0]
        parts: list[str] = []
        for part in (here / target).parts[1:]:
            if part == "..":
                if not parts:
                    return found[1]
                parts.pop()
            else:
                parts.append(part)
        return found[0] if files.get_file_from_path("/".join(parts)) is not None else found[1]

    return LINK.sub(link, markdown)
