"""Pages of the documentation site that lie outside docs/: the README, CONTRIBUTING, data cards.

A hook of mkdocs (`mkdocs.yml`). Links in these files are relative to the file, as GitHub shows
them; here they are rewritten for the site.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
TEXTS = ("CITATION.cff",)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root folder and the data cards."""
    for source, target in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        text = re.sub(r"\]\(docs/", "](", text)
        for name, page in PAGES.items():
            text = text.replace(f"]({name})", f"]({page})")
        files.append(File.generated(config, target, content=text))
    for name in TEXTS:
        files.append(File.generated(config, name, content=(ROOT / name).read_text("utf-8")))
    for card in sorted((ROOT / "data_cards").glob("*.md")):
        head, _, body = card.read_text(encoding="utf-8").partition("\n---\n")
        text = f"{body.strip()}\n\n```yaml\n{head.removeprefix('---').strip()}\n```\n"
        files.append(File.generated(config, f"data_cards/{card.name}", content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Links of docs/ to the data cards, which lie beside docs/ in the clone."""
    return markdown.replace("](../data_cards)", "](data_cards/folder.md)").replace(
        "](../data_cards/", "](data_cards/"
    )
