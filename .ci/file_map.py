"""Write the file map of docs/architecture.md from the first lines of module docstrings.

python .ci/file_map.py            # rewrite the page
python .ci/file_map.py --check    # exit status 1 if the page is not up to date
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
MARK = "## Every module\n"


def first_line(path: Path) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ").removesuffix(".")


def build_tables(package: Path) -> list[str]:
    """One table per package, parents before children; packages and modules in order of name."""
    name = package.relative_to(ROOT).as_posix()
    lines = [f"### {name}", "", f"{first_line(package / '__init__.py')}.", ""]
    modules = [path for path in sorted(package.glob("*.py")) if path.name != "__init__.py"]
    if modules:
        lines += ["| module | what it does |", "|---|---|"]
        lines += [f"| `{path.name}` | {first_line(path).replace('|', chr(92) + '|')} |"
                  for path in modules] + [""]  # fmt: skip
    for child in sorted(path.parent for path in package.glob("*/__init__.py")):
        lines += build_tables(child)
    return lines


def build_page(page: str) -> str:
    """The page with everything below its mark made anew."""
    head, mark, _ = page.partition(MARK)
    if not mark:
        raise SystemExit(f"{PAGE}: has no line {MARK.strip()!r}")
    intro = "The first sentence of each module, written here by `.ci/file_map.py`."
    return "\n".join([head + MARK, intro, "", *build_tables(ROOT / "echodiff")]).rstrip() + "\n"


def main(arguments: list[str]) -> int:
    before = PAGE.read_text(encoding="utf-8")
    after = build_page(before)
    if arguments == ["--check"]:
        return int(before != after)
    PAGE.write_text(after, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
