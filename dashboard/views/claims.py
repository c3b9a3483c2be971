"""What the articles ask and what was found: questions with answers, a table of verdicts, a page a claim (`?claim=`)."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboard import address, artifacts
from dashboard.claims import (
    VERDICT_COLORS,
    Statement,
    estimates_figure,
    evidence_figure,
    interval_text,
    number,
    order,
    partner,
    statement,
)
from dashboard.links import go
from dashboard.state import kept, table
from dashboard.tabs import CHART
from dashboard.words import VERDICTS, Say, plain
from experiments.store.location import Store
from experiments.store.questions import QUESTIONS, Language, answer
from experiments.store.verdicts import Judged, judged, read_catalogue, read_evidence
from experiments.store.words import phrase_in, why_in

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

_SHAPES = {"holds": "●", "fails": "■", "undetermined": "▲", "": "○"}  # a verdict is told by more than its colour
_ALL = "all"
_MOST_RUNS = 200


@dataclass(frozen=True)
class Standing:
    """The claims and what the store says of each.

    Args:
        statements: claim -> what it says, in the order of their ids.
        runs: claim -> its runs, the newest first.
    """

    statements: Mapping[str, Statement]
    runs: Mapping[str, Sequence[Judged]]

    def newest(self, claim_id: str) -> Judged | None:
        """The claim's newest run of its own design."""
        return next((run for run in self.runs.get(claim_id, ()) if not run.custom), None)

    def verdict(self, claim_id: str) -> str:
        """The newest verdict, "" where there is none."""
        run = self.newest(claim_id)
        return run.verdict if run else ""


def page(store: Store, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """The page.

    Args:
        store: what is read.
        say: the words of the chosen language.
        pages: every page by name, to link to.
    """
    now = kept(store, _standing)
    wanted = st.query_params.get("claim", "")
    if wanted in now.statements:
        _claim(store, now, now.statements[wanted], say, pages)
        return
    st.title(say("claims"))
    if wanted:
        st.warning(say("claim_unknown", name=plain(wanted)), icon=":material/search_off:")
    if not now.runs:
        with st.container(border=True):
            st.subheader(say("claims_none"))
            st.write(say("claims_none_text"))
            st.code("taolu claims run 5655", language="bash")
            st.code("taolu demo", language="bash")
    articles = [_ALL, *sorted({str(each.article) for each in now.statements.values()} | _asked(), key=int)]
    article = st.segmented_control(
        say("article"),
        articles,
        required=True,
        format_func=lambda name: say("all_articles") if name == _ALL else name,
        **address.one("article", articles, _ALL),
    )
    _questions(now, article or _ALL, say)
    if now.statements:
        _table(now, article or _ALL, say)
        _planted(now, say)


def _asked() -> set[str]:
    return {str(question.article) for question in QUESTIONS.values()}


def _standing(store: Store) -> Standing:
    """Statements of the store's list, and of the evidence of claims that are not in it."""
    runs: dict[str, list[Judged]] = {}
    for run in judged(store):
        runs.setdefault(run.claim, []).append(run)
    found = {each.id: each for each in map(statement, read_catalogue(store)) if each.id}
    for claim_id in runs.keys() - found.keys():
        found[claim_id] = _from_evidence(store, claim_id, runs[claim_id][0].run_id)
    return Standing({claim_id: found[claim_id] for claim_id in sorted(found, key=order)}, runs)


@st.cache_data(max_entries=2_000, show_spinner=False)
def _from_evidence(store: Store, claim_id: str, run_id: str) -> Statement:
    return statement({**(read_evidence(store, run_id) or {}), "claim": claim_id})


# ---- questions and the table ----------------------------------------------------------------------------------------


def _questions(now: Standing, article: str, say: Say) -> None:
    """The articles' questions, each with its answer in one sentence."""
    language = _language(say)
    found = {
        key: {
            each.id: now.verdict(each.id)
            for each in now.statements.values()
            if each.question == key and not each.is_planted
        }
        for key, question in QUESTIONS.items()
        if article in (_ALL, str(question.article))
    }
    for key in sorted(found, key=lambda key: not any(found[key].values())):  # first those that have an answer
        question, verdicts = QUESTIONS[key], found[key]
        told = answer(question, verdicts or {"": ""}, language)  # in a store where no claim was run none is known
        with st.container(border=True, gap="xxsmall"):
            st.markdown(f"**{plain(question.text if language == 'en' else question.text_zh)}**")
            st.markdown(plain(told, 1_000))
            st.caption(_link(question.article))


def _table(now: Standing, article: str, say: Say) -> None:
    """A row a claim; a click opens it."""
    import pandas as pd

    st.subheader(say("verdicts"))
    verdicts = [*VERDICT_COLORS, "not_run"]
    wanted = st.pills(
        say("verdict"), verdicts, selection_mode="multi", format_func=say, **address.many("verdict", verdicts)
    )
    chosen = [
        each
        for each in now.statements.values()
        if article in (_ALL, str(each.article))
        and (not wanted or (now.verdict(each.id) or "not_run") in wanted)
        and not each.is_planted
    ]
    language = _language(say)
    rows = [
        {
            "claim": each.id,
            "verdict": verdict_text(say, now.verdict(each.id)),
            "statement": each.text[language],
            "measured": interval_text(run.metrics) if (run := now.newest(each.id)) else "",
            "claimed": _band(each, say),
            "form": say(_form(each)),
        }
        for each in chosen
    ]
    columns = ["claim", "verdict", "statement", "measured", "claimed", "form"]
    config = st.column_config
    event = st.dataframe(
        pd.DataFrame(rows, columns=columns),
        hide_index=True,
        column_config={
            "claim": config.TextColumn(say("claim"), width=90),
            "verdict": config.TextColumn(say("verdict"), width=120),
            "statement": config.TextColumn(say("statement"), width=480),
            "measured": config.TextColumn(say("measured")),
            "claimed": config.TextColumn(say("claimed")),
            "form": config.TextColumn(say("form")),
        },
        selection_mode="single-cell",
        on_select="rerun",
        key="claims_table",
    )
    if event["selection"]["cells"]:
        _open(chosen[event["selection"]["cells"][0][0]].id)
    counts = {name: sum((now.verdict(each.id) or "not_run") == name for each in chosen) for name in verdicts}
    told = " · ".join(f"{say(name)} {count}" for name, count in counts.items() if count)
    st.caption(f"{say('claims_count', n=len(chosen))}: {told}. {say('claims_hint')}")


def _planted(now: Standing, say: Say) -> None:
    """Laws that are false by construction, the example of what *fails* looks like."""
    planted = [each for each in now.statements.values() if each.is_planted]
    if not planted:
        return
    st.subheader(say("planted"))
    st.write(say("planted_text"))
    for each in planted:
        with st.container(border=True, gap="xxsmall"):
            st.markdown(f"{_badge(now.verdict(each.id), say)} {plain(each.text[_language(say)], 400)}")
            if each.id in now.runs:
                _button(each.id, say)
            else:
                st.code(f"taolu claims run {shlex.quote(each.id)}", language="bash")


# ---- one claim ------------------------------------------------------------------------------------------------------


def _claim(store: Store, now: Standing, claim: Statement, say: Say, pages: Mapping[str, StreamlitPage]) -> None:
    """Everything about one claim."""
    if st.button(say("all_claims"), icon=":material/arrow_back:", type="tertiary"):
        del st.query_params["claim"]
        st.rerun()
    st.title(claim.id if claim.id.isascii() else plain(claim.id))
    run = now.newest(claim.id) or next(iter(now.runs.get(claim.id, ())), None)
    evidence = _evidence(store, run)
    st.markdown(f"{_badge(run.verdict if run else '', say)} **{plain(claim.text[_language(say)], 600)}**")
    _formula(claim)
    source = plain(phrase_in(_language(say), claim.source))
    st.caption(" · ".join(part for part in (say(_form(claim)), source, _link(claim.article)) if part))
    if run:
        _measured(run, evidence, claim, say)
    else:
        st.info(say("claim_not_run"))
    _pair(store, now, claim, say)
    _rule(claim, evidence, say)
    if run:
        _history(store, now.runs[claim.id], claim, say, pages)
    st.subheader(say("again"))
    st.code(_command(store, run) or f"taolu claims run {shlex.quote(claim.id)}", language="bash", wrap_lines=True)
    if run and isinstance(evidence.get("probe"), str):
        st.caption(say("probe", place=plain(evidence["probe"])))


def _evidence(store: Store, run: Judged | None) -> Mapping[str, Any]:
    """The run's evidence, empty where there is none that can be read."""
    found: Mapping[str, Any] | None = kept(store, read_evidence, run.run_id) if run else None
    return found or {}


def _measured(run: Judged, evidence: Mapping[str, Any], claim: Statement, say: Say) -> None:
    with st.container(horizontal=True):
        st.metric(say("measured"), interval_text(run.metrics) or "–", width="content")
        st.metric(say("claimed"), _band(claim, say), width="content")
        count = run.metrics.get("n", float("nan"))
        st.metric(say("repetitions"), f"{count:,.0f}" if count == count else "–", width="content")
        seconds = number(evidence.get("seconds"))
        st.metric(say("cpu_seconds"), f"{seconds:.2g}" if seconds == seconds else "–", width="content")
    if run.status == "FAILED":
        st.error(say("probe_raised"), icon=":material/error:")
    evidence = _in_words(evidence, say)
    figure = evidence_figure(evidence, {"measured": say("measured"), "law": say("law")})
    if figure is None and run.metrics:
        words = {"estimate": evidence["statistic"], **{name: say(name) for name in VERDICT_COLORS}}
        figure = estimates_figure([run.claim], [{**run.metrics, "verdict": run.verdict}], claim, words)
    if figure is not None:
        st.plotly_chart(figure, key="evidence", config=CHART)


def _rule(claim: Statement, evidence: Mapping[str, Any], say: Say) -> None:
    """How a verdict is drawn, and why this time it was none."""
    st.subheader(say("verdict_rule"))
    name = claim.rule.replace(" ", "_")
    low, high = claim.band
    st.write(plain(say(f"rule_{name}_text", low=f"{low:.5g}", high=f"{high:.5g}"), 600))
    if claim.reason:
        st.caption(say("tolerance_reason", reason=plain(phrase_in(_language(say), claim.reason), 400)))
    if evidence.get("why"):
        st.caption(say("undecided_because", why=plain(why_in(_language(say), str(evidence["why"])), 400)))


def _pair(store: Store, now: Standing, claim: Statement, say: Say) -> None:
    """The statement as the article has it beside its correction."""
    other = partner(claim.id, now.statements)
    if other is None:
        return
    st.subheader(say("beside"))
    pair = sorted((claim.id, other))
    for column, claim_id in zip(st.columns(2, border=True), pair, strict=True):
        each, run = now.statements[claim_id], now.newest(claim_id)
        with column:
            st.caption(f"{say(_form(each))} · {plain(claim_id)}")
            st.markdown(f"{_badge(now.verdict(claim_id), say)} {plain(each.text[_language(say)], 400)}")
            _formula(each)
            st.caption(f"{say('measured')} {plain(interval_text(run.metrics) if run else '–')} · {_claimed(each, say)}")
            words = {"measured": say("measured"), "law": say("law")}
            figure = evidence_figure(_in_words(_evidence(store, run), say), words)
            if figure is not None:
                figure.update_layout(height=320, title_text="", margin_t=12, legend_y=-0.34)
                figure.update_yaxes(title_font_size=11)
                st.plotly_chart(figure, key=f"evidence {claim_id}", config=CHART)
            if claim_id != claim.id:
                _button(claim_id, say)


def _history(
    store: Store, runs: Sequence[Judged], claim: Statement, say: Say, pages: Mapping[str, StreamlitPage]
) -> None:
    """Every run of the claim: a chart from the second on, and a table that leads to them."""
    import pandas as pd

    runs = runs[:_MOST_RUNS]
    known = table(store).set_index("run_id")["started"]
    times = [str(known.get(run.run_id, ""))[:19] for run in runs]
    st.subheader(say("claim_history"))
    if len(runs) > 1:
        words = {"estimate": say("history_title"), **{name: say(name) for name in VERDICT_COLORS}}
        figures = [{**run.metrics, "verdict": run.verdict} for run in runs]
        st.plotly_chart(estimates_figure(times, figures, claim, words), key="history", config=CHART)
    frame = pd.DataFrame(
        {
            say("started"): [f"{time[:16]} UTC" for time in times],
            say("verdict"): [verdict_text(say, run.verdict) for run in runs],
            say("measured"): [interval_text(run.metrics) for run in runs],
            say("seed"): [run.seed for run in runs],
            say("effort"): [say(f"effort_{run.effort}") if run.effort in ("quick", "full") else "" for run in runs],
            say("design"): [run.custom for run in runs],
        }
    )
    event = st.dataframe(
        frame,
        hide_index=True,
        selection_mode="single-cell",
        on_select="rerun",
        key=f"history of {claim.id}",
    )
    if event["selection"]["cells"]:
        go(pages["run"], run=[runs[event["selection"]["cells"][0][0]].run_id])
    st.caption(say("history_hint"))


# ---- words ----------------------------------------------------------------------------------------------------------


def verdict_text(say: Say, verdict: str) -> str:
    """A verdict with its shape, for a table's cell."""
    return f"{_SHAPES[verdict]} {say(verdict or 'not_run')}" if verdict in _SHAPES else verdict


def _badge(verdict: str, say: Say) -> str:
    if verdict not in _SHAPES:
        return plain(verdict, 40)
    return f":{VERDICTS.get(verdict, 'gray')}-badge[{verdict_text(say, verdict)}]"


def _form(claim: Statement) -> str:
    return "planted_form" if claim.is_planted else ("corrected" if claim.id.endswith("c") else "as_written")


def _band(claim: Statement, say: Say) -> str:
    """What the estimate must be, in few words."""
    slack = {"equals": " ± ", "at most": " + ", "at least": " − "}[claim.rule]
    told = f"{claim.expected:.5g}" + (f"{slack}{claim.tolerance:.3g}" if claim.tolerance else "")
    return say(f"rule_{claim.rule.replace(' ', '_')}", value=told)


def _claimed(claim: Statement, say: Say) -> str:
    return f"{say('claimed')} {plain(_band(claim, say))}"


def _in_words(evidence: Mapping[str, Any], say: Say) -> dict[str, Any]:
    """The evidence, of whatever quality, with its statistic, axes and series named in the page's language."""
    language, axes = _language(say), evidence.get("axes")
    if isinstance(axes, Mapping):
        axes = {**axes, **{side: phrase_in(language, str(axes.get(side, ""))) for side in ("x", "y")}}
    told = {key: _series_in(language, evidence.get(key)) for key in ("points", "theory")}
    return {**evidence, **told, "statistic": phrase_in(language, str(evidence.get("statistic", ""))), "axes": axes}


def _series_in(language: Language, rows: object) -> object:
    if language == "en" or not isinstance(rows, list):
        return rows
    return [
        {**row, "series": phrase_in(language, str(row.get("series", "")))} if isinstance(row, Mapping) else row
        for row in rows
    ]


def _formula(claim: Statement) -> None:
    if claim.formula:
        st.latex(rf"\rule{{0pt}}{{1.6em}}{claim.formula}")  # room above: Streamlit 1.67 cuts the top of a fraction off


def _link(article: int) -> str:
    return f"[kexue.fm/archives/{article}](https://kexue.fm/archives/{article})" if article else ""


def _language(say: Say) -> Language:
    return "zh" if say("language") == "中文" else "en"


def _command(store: Store, run: Judged | None) -> str:
    """The line that repeats the run, as the run kept it."""
    return (artifacts.read_head(store.run_folder(run.run_id), "command.txt") or "").strip() if run else ""


def _button(claim_id: str, say: Say) -> None:
    if st.button(say("open_claim"), key=f"open {claim_id}", icon=":material/arrow_forward:", type="tertiary"):
        _open(claim_id)


def _open(claim_id: str) -> None:
    """The claim's own page, a step in the browser's history."""
    st.query_params["claim"] = claim_id
    st.rerun()
