"""Every claim with its evidence as one HTML page that needs no network, and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from experiments.claims.listing import Standing, shown
from experiments.claims.plot import shapes, svg
from experiments.claims.record import evidence_from
from experiments.claims.words import NOT_RUN, band_in, figure, form_in, rule_in, verdict_in
from experiments.errors import ConfigError
from experiments.store.files import write_text
from experiments.store.location import Store
from experiments.store.words import phrase_in, why_in
from experiments.words import ENGLISH, Words

HEADS = ("claim", "statement", "claimed", "measured", "verdict")
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


def write_report(now: Standing, store: Store, output: Path, words: Words = ENGLISH) -> tuple[Path, Path]:
    """The HTML page and the Markdown beside it.

    Args:
        now: claims and verdicts.
        store: where evidence lies.
        output: a folder, for claims.html and claims.md in it, or a file ending in .html.
        words: of the language of both.

    Raises ConfigError where neither can be written.
    """
    is_page = output.suffix in (".html", ".htm")
    page = output if is_page else output / "claims.html"
    if not is_page and output.is_file():
        raise ConfigError(f"--output {output}: a file, but no .html; give FILE.html or a folder")
    records = [shown(now, store, claim.id) for claim in now.claims]
    try:
        write_text(page, html(now, records, words))
        write_text(page.with_suffix(".md"), markdown(now, records, words))
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written ({error.strerror}); choose another place") from error
    return page, page.with_suffix(".md")


def html(now: Standing, records: list[dict[str, Any]], words: Words) -> str:
    """The page: answers, the table of verdicts, then each claim with formula, figures and plot."""
    sections = (_section(now, record, words) for record in records)
    body = "".join([*_answers(now, words), *_table(records, words), *sections])
    title = words("claims")
    return (
        f'<!doctype html><html lang="{words.language}"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        f"<h1>{title}</h1><p class=soft>{_made()}</p>{body}</body></html>\n"
    )


def _made() -> str:
    return f"taolu claims report, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _answers(now: Standing, words: Words) -> Iterator[str]:
    yield f"<h2>{words('questions')}</h2>"
    for row in now.questions():
        link = f"https://kexue.fm/archives/{row['article']}"
        title = escape(words.of(row, "question"))
        yield f'<h3>{title} <a class=soft href="{link}">{row["article"]}</a></h3>'
        yield f"<p>{escape(words.of(row, 'answer'))}</p>"


def _table(records: list[dict[str, Any]], words: Words) -> Iterator[str]:
    heads = "".join(f"<th>{words(f'claim_head_{name}')}</th>" for name in HEADS)
    yield f"<h2>{words('verdicts')}</h2><table><tr>{heads}</tr>"
    for record in records:
        cells = [words.of(record, "statement"), _claimed(record, words), figure(record, words)]
        yield (
            f'<tr><td><a href="#{record["id"]}">{record["id"]}</a></td>'
            f"{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}<td>{_badge(record, words)}</td></tr>"
        )
    yield "</table>"


def _claimed(record: Mapping[str, Any], words: Words) -> str:
    return band_in(words, record["rule"], record["claimed"])


def _badge(record: Mapping[str, Any], words: Words) -> str:
    verdict = record["verdict"]
    return f'<span class="{"none" if verdict == NOT_RUN else verdict}">{verdict_in(words, verdict)}</span>'


def _section(now: Standing, record: Mapping[str, Any], words: Words) -> str:
    evidence = record["evidence"]
    source = f'{_phrase(record["source"], words)}, <a href="{record["link"]}">{record["link"]}</a>'
    pieces = [
        f'<article id="{record["id"]}"><h3>{record["id"]} {_badge(record, words)}</h3>',
        f"<p>{escape(words.of(record, 'statement'))}</p>",
        f"<p>{mathml(record['formula'])}</p>",
        f"<p class=soft>{words('claim_form', form=form_in(words, record['form']), source=source)}</p>",
    ]
    if evidence:
        verdict, why = verdict_in(words, evidence["verdict"]), why_in(words.language, evidence["why"])
        told = escape(words("claim_why", why=why)) if why else ""
        measured = f"{_phrase(evidence['statistic'], words)} = {escape(figure(record, words))}"
        pieces += [
            f"<p>{measured}, n {evidence['n']}{told}</p>",
            svg(shapes(now.find(record["id"]), evidence_from(evidence), verdict, words)),
        ]
    reason, band = _phrase(record["reason"], words), escape(_claimed(record, words))
    rule = escape(rule_in(words, record["rule"], record["expected"], record["tolerance"]))
    pieces.append(f"<p class=soft>{words('claim_claimed', band=band, reason=reason)}<br>{rule}</p>")
    pieces.append(f"<p class=soft>{escape(record['probe'])}<br><code>{escape(record['again'])}</code></p></article>")
    return "".join(pieces)


def _phrase(text: str, words: Words) -> str:
    """The phrase in the page's language, or the English marked as such."""
    told = phrase_in(words.language, text)
    is_foreign = words.language != "en" and told == text
    return f"<span lang=en>{escape(text)}</span>" if is_foreign else escape(told)


def mathml(formula: str) -> str:
    """The LaTeX formula as MathML, or as it is written where the converter does not know it."""
    from latex2mathml.converter import convert

    try:
        return str(convert(formula, display="block"))
    except Exception:  # noqa: BLE001 - the converter's errors share no base, and a user's formula ends no report
        return f"<code>{escape(formula)}</code>"


def markdown(now: Standing, records: list[dict[str, Any]], words: Words) -> str:
    """Answers and verdicts as Markdown; formulas as TeX between dollars."""
    lines = [f"# {words('claims')}", "", _made(), "", f"## {words('questions')}", ""]
    for row in now.questions():
        lines += [f"**{words.of(row, 'question')}** ({row['article']})", "", words.of(row, "answer"), ""]
    heads = [words(f"claim_head_{name}") for name in (*HEADS[:2], "formula", *HEADS[2:])]
    lines += [f"## {words('verdicts')}", "", f"| {' | '.join(heads)} |", "|---|---|---|---|---|---|"]
    for record in records:
        cells = [f"[{record['id']}]({record['link']})", words.of(record, "statement"), f"${record['formula']}$"]
        cells += [_claimed(record, words), figure(record, words), verdict_in(words, record["verdict"])]
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
