"""Render a page from its template: one HTML file without external resources."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from echodiff.files import shipped, write_text_atomic
from echodiff.runs import versions


def write_page(out: Path, template: str, **values: Any) -> None:
    """Render `templates/<template>` with these values and write it to `out`."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(shipped("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(versions=versions(), **values)
    write_text_atomic(out, page)
