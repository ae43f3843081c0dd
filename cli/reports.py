"""The forms of a report file, by its ending; adding one is adding an entry to ``FORMS``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from compress_ops.report.page import Page


def _json(page: Page, document: Mapping[str, Any]) -> str:
    import json

    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _markdown(page: Page, document: Mapping[str, Any]) -> str:
    from compress_ops.report.markdown import to_markdown

    return to_markdown(page)


def _html(page: Page, document: Mapping[str, Any]) -> str:
    from compress_ops.report.html import to_html

    return to_html(page)


FORMS: dict[str, Callable[[Page, Mapping[str, Any]], str]] = {".json": _json, ".md": _markdown, ".html": _html}
"""From the page, and the document of --json, to the text of the file."""
