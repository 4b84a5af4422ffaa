"""What every page shares: head, style, tables that scroll on narrow screens, bars of intervals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote, urlsplit

from fmfbench.errors import InputError
from fmfbench.files.atomic import write_text
from fmfbench.plots.palette import css_variables
from fmfbench.scoring.figures import figure_text, interval_text, interval_words
from fmfbench.scoring.metrics import Figure

__all__ = [
    "check_studio",
    "interval_bar",
    "metric_rows",
    "page",
    "studio_link",
    "table_html",
    "write_page",
]

_STYLE = (
    css_variables()
    + """
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);max-width:1160px;margin:0 auto;padding:16px}
h1{font-size:22px;margin:8px 0;overflow-wrap:anywhere}
h2{font-size:18px;margin:32px 0 8px;border-bottom:1px solid var(--rule)}
h3{font-size:15px;margin:16px 0 4px}p{margin:8px 0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;max-width:100%;margin:8px 0}
table{border-collapse:collapse}td,th{border:1px solid var(--rule);padding:3px 9px;text-align:right;white-space:nowrap}
td:first-child,th:first-child{text-align:left}th{background:var(--pale)}
.warn{background:var(--amber);border-left:5px solid var(--false);padding:6px 12px;margin:6px 0;font-weight:600;
overflow-wrap:anywhere}
.good{background:var(--pale);border-left:5px solid var(--truth);padding:6px 12px;margin:6px 0;font-weight:600}
.row{display:flex;flex-wrap:wrap;gap:20px;align-items:flex-start}.row>*{max-width:100%}
figure{margin:0;width:200px;max-width:100%}figcaption{font-size:13px;line-height:1.3}
img{image-rendering:pixelated;display:block;max-width:100%}
.scroll svg{max-width:none!important}
svg{max-width:100%;height:auto;display:block}svg text{font:12px system-ui,sans-serif;fill:var(--ink)}
.timeline{overflow-x:auto}.timeline svg{min-width:720px}
.key{font-size:13.5px}.key-item{display:inline-block;margin-right:14px}
.sw{display:inline-block;width:20px;height:11px;margin-right:5px;vertical-align:-1px;border:1px solid var(--rule)}
.bar{position:relative;height:16px;min-width:160px;background:var(--pale);border:1px solid var(--rule)}
.bar i{position:absolute;top:4px;height:6px;background:var(--predicted);opacity:.45}
.bar b{position:absolute;top:0;width:3px;height:14px;margin-left:-1px;background:var(--ink)}
code{overflow-wrap:anywhere;font-size:13px}
details{margin:8px 0}summary{cursor:pointer}
@media(max-width:600px){body{padding:10px}h1{font-size:19px}td,th{padding:3px 6px}.bar{min-width:70px}
td:first-child,th:first-child{white-space:normal;min-width:96px}}
@media print{body{max-width:none}.scroll td,.scroll th{white-space:normal}
details{display:block}.scroll,.timeline{overflow:visible}.noprint{display:none}}
"""
)


def page(title: str, body: str, *, script: str = "") -> str:
    """A whole HTML page that needs nothing else.

    Args:
        title: plain text.
        body: HTML.
        script: JavaScript of the page itself, at its end.
    """
    end = f"<script>{script}</script>" if script else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n{body}\n{end}</body></html>\n"
    )


def write_page(path: Path, text: str) -> Path:
    """Write a page; it takes the place of `path` when it is whole."""
    # a stranger's text may hold halves of surrogate pairs, which UTF-8 cannot
    write_text(path, text, errors="replace")
    return path


def table_html(head: Sequence[str], rows: Sequence[Sequence[str]], *, raw: Sequence[int] = ()) -> str:
    """A table that scrolls on its own where the page is narrow; columns in `raw` hold HTML."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{cell if i in raw else escape(cell)}</td>" for i, cell in enumerate(row))
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def check_studio(address: str | None) -> str | None:
    """The address of a studio as pages link to it: without what follows its path.

    Raises:
        InputError: no http or https address, or one with its token, which whoever reads the page would get.

    Example:
        >>> check_studio("http://127.0.0.1:8123")
        'http://127.0.0.1:8123/'
    """
    if address is None:
        return None
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s<>\"']", address):
        raise InputError(f"--studio: expected an address as http://127.0.0.1:8123/, got {address[:80]!a}")
    if parts.query:
        raise InputError(
            "--studio: expected the address without its ?token=..., got it with the token, which every reader of the "
            "page would get; open the studio once by its own line, then the links work in that browser"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path or '/'}"


def studio_link(studio: str | None, recording: str, frame: int, text: str | None = None) -> str:
    """HTML of a recording's name, or of `text`, linked to that frame in the studio where there is one."""
    shown = escape(recording if text is None else text)
    if studio is None:
        return shown
    return f'<a href="{escape(studio, quote=True)}#{quote(recording, safe="")}/{frame}">{shown}</a>'


def interval_bar(figure: Figure) -> str:
    """The value as a mark on a bar from 0 to 1, its interval a band; empty for what is no share."""
    if figure.value is None or not figure.metric.share:
        return ""
    band = ""
    if figure.low is not None and figure.high is not None:
        band = f'<i style="left:{figure.low:.2%};width:{max(figure.high - figure.low, 0):.2%}"></i>'
    told = f"{figure_text(figure)}{f' ({interval_text(figure)})' if band else ''}"
    return (
        f'<div class="bar" role="img" aria-label="{told}">{band}<b style="left:{figure.value:.2%}"></b></div>'
    )


def metric_rows(figures: Sequence[tuple[str, Figure]]) -> list[tuple[str, str, str, str]]:
    """(title, value, interval, bar) of titled figures, in as many digits as the interval supports."""
    return [(title, figure_text(f), interval_words(f), interval_bar(f)) for title, f in figures]
