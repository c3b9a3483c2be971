"""What the command and the pages both say, in English and Chinese: verdicts, rules, states, phrases of claims."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

from experiments.store.questions import Language

SHARED: dict[Language, dict[str, str]] = {
    "en": {
        "holds": "holds",
        "fails": "fails",
        "undetermined": "undetermined",
        "not_run": "not run",
        "as_written": "as written",
        "corrected": "corrected",
        "rule_equals_text": "Holds when the 90 % interval lies between {low} and {high}; fails when the 95 % "
        "interval lies outside; undetermined otherwise. An article's claims that are run together are corrected for "
        "their number.",
        "rule_at_most_text": "Holds when the one-sided 95 % bound lies below {high}, fails when it lies above; "
        "undetermined otherwise. The lower end is {low}. An article's claims that are run together are corrected for "
        "their number.",
        "rule_at_least_text": "Holds when the one-sided 95 % bound lies above {low}, fails when it lies below; "
        "undetermined otherwise. The upper end is {high}. An article's claims that are run together are corrected "
        "for their number.",
        "FINISHED": "finished",
        "FAILED": "failed",
        "KILLED": "killed",
        "RUNNING": "running",
        "SCHEDULED": "scheduled",
    },
    "zh": {
        "holds": "成立",
        "fails": "不成立",
        "undetermined": "未定",
        "not_run": "未运行",
        "as_written": "原文",
        "corrected": "修正",
        "rule_equals_text": "90 % 区间落在 {low} 与 {high} 之间则成立；95 % 区间落在其外则不成立；否则未定。同一文章"
        "一起运行的命题按其数目校正。",
        "rule_at_most_text": "单侧 95 % 界低于 {high} 则成立，高于则不成立；否则未定。下端为 {low}。同一文章一起运行"
        "的命题按其数目校正。",
        "rule_at_least_text": "单侧 95 % 界高于 {low} 则成立，低于则不成立；否则未定。上端为 {high}。同一文章一起运行"
        "的命题按其数目校正。",
        "FINISHED": "完成",
        "FAILED": "失败",
        "KILLED": "被终止",
        "RUNNING": "进行中",
        "SCHEDULED": "排队中",
    },
}

# Why a claim is undetermined, as the judge writes it into evidence.json, and in Chinese.
_WHY = (
    (r"the interval is too wide, or lies across the edge of the tolerance", "区间太宽，或跨过容差的边界"),
    (
        r"decided by itself \(p = (\S+)\), but not among the (\d+) claims judged together",
        r"单独看已可判定（p = \1），但在一起判定的 \2 条命题中尚不能",
    ),
    (r"the estimate is (\S+)", r"估计值为 \1"),
    (r"the interval is not a number", "区间不是数"),
    (r"the probe raised (.*)", r"测量程序出错：\1"),
)


def why_in(language: Language, reason: str) -> str:
    """Why a claim is undetermined, in this language; as it is where the judge did not write it.

    >>> why_in("zh", "the estimate is nan")
    '估计值为 nan'
    """
    if language == "en":
        return reason
    return next((re.sub(each, text, reason) for each, text in _WHY if re.fullmatch(each, reason)), reason)


def phrase_in(language: Language, text: str) -> str:
    """A source, a reason or a statistic of a claim in this language; as it is where nobody has translated it.

    >>> phrase_in("zh", "equation (9)"), phrase_in("zh", "As A1.2."), phrase_in("zh", "share of sixes")
    ('式 (9)', '同 A1.2。', 'share of sixes')
    """
    if language == "en":
        return text
    return _phrases().get(text) or re.sub(r"^As ([A-Z]\d+(\.\d+)?c?)\.$", r"同 \1。", text)


@cache
def _phrases() -> dict[str, str]:
    found: dict[str, str] = json.loads(Path(__file__).with_name("phrases.zh.json").read_text(encoding="utf-8"))
    return found
