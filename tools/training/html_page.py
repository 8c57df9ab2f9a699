"""The Markdown of a report as one HTML file, with its plots in it. Only what a report uses of Markdown is known."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping


def to_html(text: str, drawn: Mapping[str, str]) -> str:
    """Return the Markdown of `markdown` as one HTML file, with the plots in it."""
    body: list[str] = []
    for block in text.strip().split("\n\n"):
        lines = block.split("\n")
        if match := re.fullmatch(r"(#+) (.*)", lines[0]):
            body.append(f"<h{len(match[1])}>{_inline(match[2])}</h{len(match[1])}>")
        elif lines[0].startswith("!["):
            names = [line.partition("](")[2].removesuffix(".svg)") for line in lines]
            body.append("<div class=plots>" + "".join(drawn[name] for name in names) + "</div>")
        elif lines[0].startswith("| "):
            cells = [[_inline(cell) for cell in line[2:-2].split(" | ")] for line in lines]
            head = "".join(f"<th>{cell}</th>" for cell in cells[0])
            rows = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells[2:])
            body.append(f"<table><tr>{head}</tr>{rows}</table>")
        elif lines[0].startswith("- "):
            body.append("<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in lines) + "</ul>")
        elif lines[0].startswith("    "):
            body.append(f"<pre>{html.escape(block.strip())}</pre>")
        else:
            body.append(f"<p>{_inline(block)}</p>")
    title = html.escape(text.partition("\n")[0].removeprefix("# "))
    return _PAGE.format(title=title, body="\n".join(body))


def _inline(text: str) -> str:
    escaped = html.escape(text, quote=False)
    escaped = re.sub(r"`([^`]*)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*]*)\*\*", r"<b>\1</b>", escaped)


_PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }}
table {{ border-collapse: collapse; margin: 1rem 0; font-size: 13px }}
th, td {{ border: 1px solid #ccc; padding: .25rem .5rem; text-align: left }} th {{ background: #f3f3f3 }}
.plots {{ display: flex; flex-wrap: wrap; gap: 1rem }} .plots svg {{ width: 30rem; max-width: 100% }}
</style></head><body>
{body}
</body></html>
"""
