"""Every claim with its evidence as one HTML page that needs no network, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from experiments.claims.listing import NOT_RUN, Standing, figure, shown
from experiments.claims.plot import shapes, svg
from experiments.claims.record import evidence_from
from experiments.errors import ConfigError
from experiments.store.files import write_text
from experiments.store.location import Store

STYLE = """
:root{color-scheme:light dark;--line:#c9ced8;--soft:#6b7280}
body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid var(--line);
padding:.35rem .6rem;text-align:left;vertical-align:top}
article{border-top:1px solid var(--line);margin-top:2rem}h3{margin:1rem 0 .2rem}p{margin:.3rem 0}
.holds,.fails,.undetermined,.none{
border-radius:.8rem;padding:.1rem .6rem;font-size:.85rem;color:#fff;white-space:nowrap}
.holds{background:#2e7d4f}.fails{background:#b3402e}.undetermined{background:#7a6a1e}.none{background:#6b7280}
.soft{color:var(--soft);font-size:.9rem}svg{max-width:100%;height:auto;border-radius:.4rem}code{font-size:.85rem}
"""


def write_report(now: Standing, store: Store, output: Path) -> tuple[Path, Path]:
    """The HTML page and the Markdown beside it.

    Args:
        now: claims and verdicts.
        store: where evidence lies.
        output: a folder, for claims.html and claims.md in it, or a file ending in .html.

    Raises ConfigError where neither can be written.
    """
    is_page = output.suffix in (".html", ".htm")
    page = output if is_page else output / "claims.html"
    if not is_page and output.is_file():
        raise ConfigError(f"--output {output}: a file, but no .html; give FILE.html or a folder")
    records = [shown(now, store, claim.id) for claim in now.claims]
    try:
        write_text(page, html(now, records))
        write_text(page.with_suffix(".md"), markdown(now, records))
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written ({error.strerror}); choose another place") from error
    return page, page.with_suffix(".md")


def html(now: Standing, records: list[dict[str, Any]]) -> str:
    """The page: answers, the table of verdicts, then each claim with formula, figures and plot."""
    body = "".join([*_answers(now), *_table(records), *(_section(now, record) for record in records)])
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Claims and verdicts</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>Claims and verdicts 命题与判定</h1><p class=soft>{_made()}</p>{body}</body></html>\n"
    )


def _made() -> str:
    return f"taolu claims report, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _answers(now: Standing) -> Iterator[str]:
    yield "<h2>Questions 问题</h2>"
    for row in now.questions():
        link = f"https://kexue.fm/archives/{row['article']}"
        title = f"{escape(row['question'])} {escape(row['question_zh'])}"
        yield f'<h3>{title} <a class=soft href="{link}">{row["article"]}</a></h3>'
        yield f"<p>{escape(row['answer'])}</p><p lang=zh>{escape(row['answer_zh'])}</p>"


def _table(records: list[dict[str, Any]]) -> Iterator[str]:
    heads = "".join(f"<th>{name}</th>" for name in ("claim", "statement", "claimed", "measured", "verdict"))
    yield f"<h2>Verdicts 判定</h2><table><tr>{heads}</tr>"
    for record in records:
        yield (
            f'<tr><td><a href="#{record["id"]}">{record["id"]}</a></td><td>{escape(record["statement"])}</td>'
            f"<td>{escape(record['claimed'])}</td><td>{escape(figure(record))}</td><td>{_badge(record)}</td></tr>"
        )
    yield "</table>"


def _badge(record: Mapping[str, Any]) -> str:
    verdict = record["verdict"]
    return f'<span class="{"none" if verdict == NOT_RUN else verdict}">{verdict}</span>'


def _section(now: Standing, record: Mapping[str, Any]) -> str:
    evidence = record["evidence"]
    link = f'<a href="{record["link"]}">{record["link"]}</a>'
    pieces = [
        f'<article id="{record["id"]}"><h3>{record["id"]} {_badge(record)}</h3>',
        f"<p>{escape(record['statement'])}</p><p lang=zh>{escape(record['statement_zh'])}</p>",
        f"<p>{mathml(record['formula'])}</p>",
        f"<p class=soft>{record['form']}; {escape(record['source'])}, {link}</p>",
    ]
    if evidence:
        claim = now.find(record["id"])
        why = f"; {evidence['why']}" if evidence["why"] else ""
        pieces += [
            f"<p>{escape(evidence['statistic'])} = {escape(figure(record))}, n {evidence['n']}{escape(why)}</p>",
            svg(shapes(claim, evidence_from(evidence), evidence["verdict"])),
        ]
    pieces.append(f"<p class=soft>claimed: {escape(record['claimed'])} ({escape(record['reason'])})</p>")
    pieces.append(f"<p class=soft>{escape(record['probe'])}<br><code>{escape(record['again'])}</code></p></article>")
    return "".join(pieces)


def mathml(formula: str) -> str:
    """The LaTeX formula as MathML, or as it is written where the converter does not know it."""
    from latex2mathml.converter import convert

    try:
        return str(convert(formula, display="block"))
    except Exception:  # noqa: BLE001 - the converter's errors share no base, and a user's formula ends no report
        return f"<code>{escape(formula)}</code>"


def markdown(now: Standing, records: list[dict[str, Any]]) -> str:
    """Answers and verdicts as Markdown; formulas as TeX between dollars."""
    lines = ["# Claims and verdicts 命题与判定", "", _made(), "", "## Questions 问题", ""]
    for row in now.questions():
        lines += [f"**{row['question']} {row['question_zh']}** ({row['article']})", ""]
        lines += [row["answer"], "", row["answer_zh"], ""]
    lines += ["## Verdicts 判定", "", "| claim | statement | formula | claimed | measured | verdict |"]
    lines.append("|---|---|---|---|---|---|")
    for record in records:
        cells = [f"[{record['id']}]({record['link']})", record["statement"], f"${record['formula']}$"]
        cells += [record["claimed"], figure(record), record["verdict"]]
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
