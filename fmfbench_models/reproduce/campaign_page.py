"""`reproduce all` as one page: what the figures say, every table, curves, board, cost, and what was not reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from fmfbench.files.atomic import replace_file, write_text
from fmfbench.plots.page import page, table_html, write_page
from fmfbench_models.reproduce.markdown import (
    OF_SEEDS,
    REINTERPRETATION,
    details,
    duration,
    figure,
    fold_cells,
    named,
    row_cells,
    table_head,
    world_cells,
)
from fmfbench_models.reproduce.overview import draw_curves, draw_rows
from fmfbench_models.reproduce.saying import saying, saying_markdown
from fmfbench_models.reproduce.workplace import Workplace

__all__ = ["write_pages"]

Document = Mapping[str, Any]
WAITING = ("not asked for", "to do", "not available")


def write_pages(
    place: Workplace, document: Document, documents: Sequence[Document], board: Document | None
) -> None:
    """Write `index.html`, its pictures of all rows and all curves, and `what_they_say-SIZE.md` into the folder."""
    title = f"All tables, {documents[0]['preset']} preset, store {documents[0]['data']['name']}"
    said = saying(document, documents, board)
    write_text(
        place.out / f"what_they_say-{place.scored}.md",
        saying_markdown(f"What these figures do and do not say: {title}", said)
        + f"\n{documents[0]['notice']}\n",
    )
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="warn">{escape(documents[0]["notice"])}</p>'
        if document["data"]["simulated"]
        else f"<p>{escape(documents[0]['notice'])}</p>",
        contents(document, documents, board, place),
        shown(
            place.table("rows", "png"), draw_rows(documents[0]), "accuracy and mIoU of every row of Table II"
        ),
        *(
            f"<h2>{escape(heading)}</h2><ul>{''.join(f'<li>{escape(text)}</li>' for text in sentences)}</ul>"
            for heading, sentences in said.items()
        ),
        *(table_section(found, facts) for found, facts in zip(documents, document["tables"], strict=True)),
        curves_section(document["curves"]),
        shown(place.table("curves", "png"), draw_curves(document["curves"]), "the loss of every training"),
        missing_section(document),
        cost_section(document),
    ]
    write_page(place.out / "index.html", page(title, "\n".join(body)))


def contents(
    document: Document, documents: Sequence[Document], board: Document | None, place: Workplace
) -> str:
    done = sum(unit["status"] == "done" for unit in document["units"])
    links = [
        f'<a href="#{anchor(facts["name"])}">{escape(facts["name"])}</a>' for facts in document["tables"]
    ]
    links += [
        '<a href="#curves">curves</a>',
        '<a href="#missing">not reached</a>',
        '<a href="#cost">cost</a>',
    ]
    if board is not None:
        links.insert(
            0,
            f'<a href="board-{place.scored}/index.html">board</a> ({len(board["rows"])} bundles, scored again)',
        )
    links.append(f'<a href="what_they_say-{place.scored}.md">what they say, as text</a>')
    return (
        f"<p>{done} of {len(document['units'])} rows are made (a row with a seed, whole or with something lost): "
        f"{', '.join(links)}.</p>"
    )


def shown(path: Path, picture: bytes | None, told: str) -> str:
    """Write a picture and show it; "" where there is none."""
    if picture is None:
        return ""
    replace_file(path, picture)
    return f'<p><img src="{escape(path.name)}" alt="{escape(told)}" style="max-width: 100%"></p>'


def anchor(name: str) -> str:
    return name.replace(" ", "-").replace(",", "")


def table_section(document: Document, facts: Document) -> str:
    shown = [row for row in document["rows"] if row["status"] not in WAITING]
    files = ", ".join(f'<a href="{escape(name)}">{end}</a>' for end, name in facts["files"].items())
    parts = [
        f'<h2 id="{anchor(facts["name"])}">{escape(document["title"])}</h2>',
        f'<p class="key">{files}</p>',
    ]
    if document["picture"]:
        parts.append(f'<p><img src="{escape(document["picture"])}" alt="{escape(document["title"])}"></p>')
    if not shown:
        return "\n".join([*parts, "<p>No row is made yet.</p>"])
    ours = "FMF-Sim" if document["data"]["simulated"] else "ours"
    marks: list[str] = []
    head, with_paper, with_trunk = table_head(document)
    rows = [row_cells(row, document["metrics"], with_paper, with_trunk, marks) for row in shown]
    parts.append(table_html(head, rows))
    if len(document["seeds"]) > 1:
        marks.append(OF_SEEDS)
    if any(row["reinterpretation"] for row in shown):
        marks.append(REINTERPRETATION)
    parts += [f'<p class="key">{escape(text)}</p>' for text in marks]
    if document["left_out"]:
        head, rows = fold_cells(document, ours)
        parts += ["<h3>By the recording left out</h3>", table_html(head, rows)] if rows else []
    if document["worlds"]:
        head, rows = world_cells(document["worlds"], ours)
        parts += ["<h3>With a sensor lost</h3>", table_html(head, rows)]
    parts += calibration(shown)
    told = "".join(f"<li>{escape(text)}</li>" for text in details(document))
    parts.append(
        f"<details><summary>how this table was made, and what to know of it</summary><ul>{told}</ul></details>"
    )
    return "\n".join(parts)


def calibration(rows: Sequence[Document]) -> list[str]:
    """How far scores are from the shares of abnormal samples, of each row's first seed."""
    body = [[named(row), figure(row["ece"])] for row in rows if row["ece"]]
    if not body:
        return []
    return [
        "<h3>Expected calibration error, first seed</h3>",
        "<p>Of scores as the networks give them: no temperature was fitted.</p>",
        table_html(["method", "ECE"], body),
    ]


def curves_section(curves: Sequence[Document]) -> str:
    parts = [
        '<h2 id="curves">Has the loss flattened?</h2>',
        "<p>The share of the loss's whole fall that the last quarter of the epochs brought; at most 5 % is called "
        "flattened.</p>",
    ]
    if not curves:
        return "\n".join([*parts, "<p>Nothing is trained by gradients yet.</p>"])
    rows = []
    for curve in curves:
        share = curve["last_quarter"]
        told = {True: "yes", False: "no", None: "cannot be said"}[curve["flattened"]]
        rows.append([
            curve["training"], str(curve["epochs"]), f"{curve['first_loss']:.4g}", f"{curve['last_loss']:.4g}",
            "-" if share is None else f"{100 * share:.1f} %", told,
        ])  # fmt: skip
    parts.append(
        table_html(["training", "epochs", "first loss", "last loss", "last quarter", "flattened"], rows)
    )
    return "\n".join(parts)


def missing_section(document: Document) -> str:
    parts = ['<h2 id="missing">Not reached</h2>']
    waiting = document["not_reached"]
    if waiting:
        parts.append(f"<p>{len(waiting)}: {escape('; '.join(waiting))}. The same call resumes.</p>")
    else:
        parts.append("<p>Nothing: every row was tried.</p>")
    failed = [unit for unit in document["units"] if unit["status"] == "failed"]
    if failed:
        rows = [[unit["row"], unit["table"], str(unit["seed"]), unit["error"] or ""] for unit in failed]
        parts += ["<h3>Failed</h3>", table_html(["row", "table", "seed", "error"], rows)]
    if document["left_out_problem"]:
        parts.append(f"<p>One recording left out: {escape(document['left_out_problem'])}.</p>")
    return "\n".join(parts)


def cost_section(document: Document) -> str:
    parts = ['<h2 id="cost">Cost</h2>']
    calls = document["calls"]
    if not calls:
        return "\n".join([*parts, "<p>No call made a row whole that it had an estimate for.</p>"])
    rows = [
        [str(number), *cost_cells(call["expected"], call["seconds"])] for number, call in enumerate(calls, 1)
    ]
    seconds, expected = (sum(call[key] for call in calls) for key in ("seconds", "expected"))
    rows.append(["all", *cost_cells(expected, seconds)])
    return "\n".join([
        *parts,
        "<p>Of rows made whole by one call: what was expected beforehand, and what they took.</p>",
        table_html(["call", "expected", "took", "ratio"], rows),
    ])  # fmt: skip


def cost_cells(expected: float, seconds: float) -> list[str]:
    ratio = f"{seconds / expected:.2f}" if expected else "-"
    return [duration(expected), duration(seconds), ratio]
