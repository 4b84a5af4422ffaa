"""The board as one page: sortable, filterable, every metric with its interval, what can be told apart, no network."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import PurePath
from typing import Any

from fmfbench.board.comparison import comparison_html
from fmfbench.plots.page import interval_bar, page, studio_link, table_html
from fmfbench.scoring.figures import figure_text, interval_words, with_interval_text
from fmfbench.scoring.metrics import COUNT_METRICS, METRICS, Figure, metric
from fmfbench.scoring.provenance import corruption_of
from fmfbench.scoring.result import Score
from fmfbench.scoring.sensitivity import CONTEXTS, context_of, strict_rows
from fmfbench.scoring.simultaneous import AllPairs

__all__ = ["board_page", "row_document", "scores_page"]

_LINKS = (
    '<p class="key"><a href="board.json">board.json</a>, <a href="board.csv">CSV</a>, '
    '<a href="board.md">Markdown</a></p>'
)
_SENSITIVE = ("accuracy", "f1", "miou")
_WORLDS = (("video-missing", "video lost"), ("current-missing", "current lost"))
_SCRIPT = """
const table=document.querySelector('#board'),body=table.tBodies[0],filter=document.querySelector('#filter');
const count=document.querySelector('#count'),heads=[...table.tHead.rows[0].cells];
function sort(k,flip){const dir=heads[k].dataset.dir==='up'?1:-1,sign=flip?-dir:dir;
 const value=r=>{const v=r.cells[k].dataset.v;return v===undefined||v===''?null:(isNaN(v)?v:+v)};
 [...body.rows].sort((a,b)=>{const x=value(a),y=value(b);if(x===null)return y===null?0:1;if(y===null)return -1;
  return (x<y?-1:x>y?1:0)*sign}).forEach(r=>body.append(r));
 heads.forEach((h,i)=>h.setAttribute('aria-sort',i===k?(sign>0?'ascending':'descending'):'none'))}
heads.forEach((h,k)=>{const b=h.querySelector('button');if(b)b.onclick=()=>{
 const best=h.dataset.dir==='up'?'ascending':'descending';sort(k,h.getAttribute('aria-sort')===best)}});
function show(){const words=filter.value.toLowerCase().split(/\\s+/).filter(w=>w),only=document.querySelector('#clean').checked;
 let n=0;for(const r of body.rows){const text=r.dataset.text;const on=words.every(w=>text.includes(w))&&(!only||r.dataset.clean==='1');
  r.hidden=!on;n+=on}count.textContent=n+' of '+body.rows.length}
filter.oninput=show;document.querySelector('#clean').onchange=show;show();
document.querySelectorAll('[data-pairs]').forEach(s=>s.onchange=()=>document.querySelectorAll('.pairs').forEach(
 p=>p.hidden=p.id!=='pairs-'+s.value));
"""
_STYLE = """<style>
body{max-width:1560px}
#board th button{all:unset;cursor:pointer;font-weight:600}#board th button:focus-visible{outline:2px solid var(--predicted)}
#board th[aria-sort=descending] button::after{content:" \\2193"}#board th[aria-sort=ascending] button::after{content:" \\2191"}
#board td .bar{min-width:70px;width:100%;height:8px;border:0}#board td .bar i{top:2px;height:4px}#board td .bar b{height:8px}
#board td small{display:block;font-size:12px}#board td:first-child{position:sticky;left:0;background:#fff;min-width:150px;max-width:240px;
white-space:normal;overflow-wrap:anywhere}tr[data-clean="0"] td{background:var(--amber)!important}
.tools{display:flex;flex-wrap:wrap;gap:12px;align-items:center;margin:8px 0}.tools input[type=search]{padding:5px 8px;
border:1px solid var(--rule);min-width:200px;max-width:100%;font:inherit}.matrix td{text-align:center;font-size:12.5px}
@media(max-width:600px){#board td:first-child{max-width:120px;min-width:96px}}
@media print{@page{size:A4 landscape;margin:10mm}#board{font-size:7px;width:100%}#board td small{font-size:6px}
#board td,#board th{padding:1px 2px;white-space:normal}#board td .bar{display:none}
#board td:first-child{position:static;min-width:50px}}</style>"""


def row_document(
    score: Score,
    *,
    model: str,
    file: str,
    facts: Mapping[str, float | None] | None = None,
    report: str | None = None,
    remarks: Sequence[str] = (),
) -> dict[str, Any]:
    """One score as a row of board.json; `file` is the bundle's or the prediction file's name."""
    document = score.to_dict()
    known = [f for f in score.shown() if f.low is not None and f.high is not None]
    return {
        "model": model,
        "bundle": file,
        "metrics": {figure.name: figure.value for figure in score.shown()},
        "intervals": {figure.name: figure.interval() for figure in known},
        "undefined": {f.name: f.reason for f in score.shown() if f.value is None},
        "not_had": {f.name: f.reason for f in score.shown() if f.value is not None and f.low is None},
        "corrupt": corruption_of(score.meta),
        "warnings": list(score.warnings),
        "remarks": list(remarks),
        "context": context_of(score.meta),
        "sensitivity": {} if score.evidence is None else dict(score.evidence.sensitivity),
        "recordings": document["recordings"],
        "around_onset": document["around_onset"],
        "facts": dict(facts or {}),
        "report": report,
        "receipt": document["receipt"],
    }


def scores_page(
    scores: Sequence[Score], comparison: Mapping[str, AllPairs], *, studio: str | None = None
) -> str:
    """Several scores of one split on a page of their own: as a board, without bundles."""
    first = scores[0]
    board = {
        "fmfbench": first.receipt["fmfbench"],
        "protocol_card": first.receipt["protocol_card"],
        "interval_rule": first.receipt["interval_rule"],
        "fingerprint": first.fingerprint,
        "split": first.split,
        "sample_set": first.sample_set,
        "num_samples": first.num_samples,
        "rows": [
            row_document(each, model=str(each.meta.get("model", each.file))[:80], file=each.file)
            for each in scores
        ],
        "comparison": {name: pairs.to_dict() for name, pairs in comparison.items()},
    }
    return board_page(
        board, title=f"{len(scores)} prediction files, split {first.split}", files=False, studio=studio
    )


def board_page(
    board: Mapping[str, Any], *, title: str | None = None, files: bool = True, studio: str | None = None
) -> str:
    """The page of a board, from what its board.json holds.

    `files` links the tables beside it, `studio` is where recordings link to.
    """
    rows: Sequence[Mapping[str, Any]] = sorted(
        board["rows"], key=lambda row: (row["corrupt"] is not None, -(row["metrics"]["accuracy"] or 0))
    )
    clean = [row for row in rows if row["corrupt"] is None]
    title = title or f"Board: {len(rows)} bundles, split {board['split']}"
    facts = (
        f"{board['num_samples']} samples of split {board['split']}, {board['sample_set']}; data {board['fingerprint'][:16]}; "
        f"fmfbench {board['fmfbench']}, protocol card {board['protocol_card']}, interval rule {board['interval_rule']}. "
        "Every figure was computed from the predictions themselves; 95 % intervals."
    )
    parts = [
        _STYLE,
        f"<h1>{escape(title)}</h1><p>{escape(facts)}</p>",
        _tools(len(clean) < len(rows)),
        _main_table(rows),
        _LINKS if files else "",
        comparison_html(board["comparison"]),
        _recordings(rows, studio),
        _onset(clean),
        _sensitivity(clean),
        _proof(),
        _receipts(rows),
    ]
    return page(title, "\n".join(parts), script=_SCRIPT)


def _tools(corrupted: bool) -> str:
    hidden = "" if corrupted else " hidden"
    return (
        '<div class="tools noprint"><label>filter <input id="filter" type="search" placeholder="words of a row"></label>'
        f'<label{hidden}><input id="clean" type="checkbox"> clean input only</label><span id="count" class="key"></span></div>'
    )


def _figure(row: Mapping[str, Any], name: str) -> Figure | None:
    if name not in row["metrics"]:
        return None
    interval = row["intervals"].get(name, {})
    return Figure(
        name=name,
        value=row["metrics"][name],
        low=interval.get("low"),
        high=interval.get("high"),
        reason=row["undefined"].get(name, row["not_had"].get(name)),
    )


def _main_table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = [
        entry.name for entry in METRICS if any(row["metrics"].get(entry.name) is not None for row in rows)
    ]
    worlds = [(preset, title) for preset, title in _WORLDS if any(row["corrupt"] == preset for row in rows)]
    known = [("parameters", "parameters"), ("train_seconds", "training (s)"), ("latency_ms", "latency (ms)")]
    facts = known if any(row["facts"] for row in rows) else []  # prediction files on their own tell none
    heads = [_head("model", "up")]
    official, others = ([name for name in names if (name in COUNT_METRICS) == of] for of in (True, False))
    heads += [_metric_head(name) for name in official]
    heads += [_head(f"accuracy, {title}", "down") for _, title in worlds]
    heads += [_metric_head(name) for name in others]
    heads += [_head(title, "up") for _, title in facts] + [_head("warnings", "up")]
    lost = {(row["model"], row["corrupt"]): _figure(row, "accuracy") for row in rows if row["corrupt"]}
    lines = []
    names_twice = _twice(rows)
    for row in rows:
        cells = [_name_cell(row, names_twice)] + [_metric_cell(_figure(row, name)) for name in official]
        for preset, _ in worlds:
            cells.append(_metric_cell(None if row["corrupt"] else lost.get((row["model"], preset))))
        cells += [_metric_cell(_figure(row, name)) for name in others]
        cells += [_number_cell(row["facts"].get(name)) for name, _ in facts]
        warned = row["warnings"]
        told = escape("; ".join(warned), quote=True)
        cells.append(f'<td data-v="{len(warned)}" title="{told}">{len(warned) or ""}</td>')
        text = escape(f"{row['model']} {row['bundle']} {row['corrupt'] or 'clean'}".lower(), quote=True)
        lines.append(
            f'<tr data-text="{text}" data-clean="{int(row["corrupt"] is None)}">{"".join(cells)}</tr>'
        )
    return (
        f'<div class="scroll"><table id="board"><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _metric_head(name: str) -> str:
    return _head(metric(name).title, "down" if metric(name).higher_is_better else "up")


def _head(title: str, direction: str) -> str:
    return f'<th data-dir="{direction}" aria-sort="none"><button>{escape(title)}</button></th>'


def _name_cell(row: Mapping[str, Any], twice: set[str]) -> str:
    name = escape(row["model"])
    shown = f'<a href="{escape(row["report"], quote=True)}">{name}</a>' if row["report"] else name
    note = f"<small>CORRUPTED INPUT: {escape(row['corrupt'])}</small>" if row["corrupt"] else ""
    note += f"<small>context {row['context']}</small>" if row["context"] not in (None, "full") else ""
    note += f"<small>{escape(_stem(row))}</small>" if _claim(row) in twice else ""
    return f'<td data-v="{escape(row["model"].lower(), quote=True)}">{shown}{note}</td>'


def _metric_cell(figure: Figure | None) -> str:
    if figure is None:
        return '<td data-v="">-</td>'
    if figure.value is None:
        return f'<td data-v="" title="{escape(str(figure.reason), quote=True)}">undefined</td>'
    told = (
        f' title="{escape(str(figure.reason), quote=True)}"'
        if interval_words(figure) == "cannot be had"
        else ""
    )
    return (
        f'<td data-v="{figure.value!r}"{told}>{figure_text(figure)}<small>{interval_words(figure) or "&nbsp;"}</small>'
        f"{interval_bar(figure)}</td>"
    )


def _number_cell(value: float | None) -> str:
    return '<td data-v="">not known</td>' if value is None else f'<td data-v="{value!r}">{value:,.4g}</td>' if (
        isinstance(value, float)
    ) else f'<td data-v="{value!r}">{value:,}</td>'  # fmt: skip


def _sensitivity(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each model under full, masked and strict, as far as its rows say."""
    models: dict[str, dict[str, list[Figure]]] = {}
    count = 0
    for row in sorted(rows, key=lambda each: each["context"] != "full"):
        found = models.setdefault(row["model"], {})
        if row["context"] is not None:
            found.setdefault(
                row["context"], [f for name in _SENSITIVE if (f := _figure(row, name)) is not None]
            )
        strict = row["sensitivity"].get("strict")
        if strict:
            count = strict["num_samples"]
            found.setdefault("strict", [f for f in strict_rows(row["sensitivity"]) if f.name in _SENSITIVE])
    if not any(models.values()):
        return ""
    lines = []
    for model, contexts in models.items():
        for name in _SENSITIVE:
            cells = []
            for context in CONTEXTS:
                figure = next((f for f in contexts.get(context, []) if f.name == name), None)
                cells.append("not known" if figure is None else with_interval_text(figure))
            if any(cell != "not known" for cell in cells):
                lines.append((model, metric(name).title, *cells))
    told = (
        "Windows reach back, and may hold frames and currents of other splits: full lets them, masked hides these, strict "
        f"leaves such samples out{f' ({count} are left)' if count else ''}. Masked needs a bundle of predictions made so; "
        "strict is of the same predictions."
    )
    return f"<h2>Windows that reach into other splits</h2><p>{told}</p>{table_html(('model', 'metric', *CONTEXTS), lines)}"


def _recordings(rows: Sequence[Mapping[str, Any]], studio: str | None) -> str:
    twice = _twice(rows)
    names = list(dict.fromkeys(name for row in rows for name in row["recordings"]))
    if len(names) < 2:
        return ""
    lines = []
    for row in rows:
        known = {name: each["metrics"]["accuracy"] for name, each in row["recordings"].items()}
        worst = metric("accuracy").worst(known)
        told = [
            "-" if known.get(name) is None else f"{known[name]:.3f}{' worst' if name == worst else ''}"
            for name in names
        ]
        lines.append((_claimed(row, twice), *told))
    where = "".join(f"<li>{studio_link(studio, name, 0)}</li>" for name in names) if studio else ""
    linked = f'<p class="key">In the studio, where it runs:</p><ul class="key">{where}</ul>' if where else ""
    return f"<h2>Accuracy by recording</h2>{table_html(('model', *names), lines)}{linked}"


def _onset(rows: Sequence[Mapping[str, Any]]) -> str:
    from fmfbench.scoring.circumstances import onset_title

    bands = rows[0]["around_onset"] if rows else []
    if not bands:
        return ""
    twice = _twice(rows)
    head = ("model", *(onset_title(band) for band in bands))
    lines = [
        (
            _claimed(row, twice),
            *("-" if band["accuracy"] is None else f"{band['accuracy']:.2f}" for band in row["around_onset"]),
        )
        for row in rows
    ]
    return f"<h2>Accuracy by time from an onset</h2>{table_html(head, lines)}"


def _claim(row: Mapping[str, Any]) -> str:
    """The model's name, and what its input suffered."""
    return row["model"] + (f" ({row['corrupt']})" if row["corrupt"] else "")


def _twice(rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Claims that more than one row makes: the name of the file tells those apart."""
    return {claim for claim, count in Counter(map(_claim, rows)).items() if count > 1}


def _claimed(row: Mapping[str, Any], twice: set[str]) -> str:
    claim = _claim(row)
    return f"{claim} ({_stem(row)})" if claim in twice else claim


def _stem(row: Mapping[str, Any]) -> str:
    return PurePath(row["bundle"]).stem


def _proof() -> str:
    return (
        "<h2>What a receipt proves</h2><p>That the predictions with this sha256 give these figures on the data with this "
        "fingerprint: they were computed from them for this page. It does not prove which model made the predictions, what it was "
        "trained on, or that nobody looked at the labels: a model's name, parameters and training time are claims of "
        "whoever made them.</p>"
    )


def _receipts(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        f"<details><summary>{escape(_claim(row))}: {escape(row['bundle'])}</summary>"
        f"<p><code>{escape(json.dumps(row['receipt'], ensure_ascii=True))}</code></p>"
        + "".join(f"<p>{escape(text)}</p>" for text in row["remarks"])
        + "".join(f'<div class="warn">{escape(text)}</div>' for text in row["warnings"])
        + "</details>"
        for row in rows
    ]
    return f"<h2>Receipts</h2>{''.join(lines)}"
