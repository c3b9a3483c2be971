"""The two languages of the command: their texts, which one is spoken, and tables without a heading in the other."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from experiments.claims.planted import CLAIMS as PLANTED
from experiments.claims.record import Settings
from experiments.claims.registry import all_claims
from experiments.claims.runner import run as run_claims
from experiments.cli import VERBS
from experiments.config import experiment_names
from experiments.design import design_of, sweep_names
from experiments.errors import ConfigError
from experiments.pairs import Effect, Pair
from experiments.store.location import locate
from experiments.store.studies import TrialRecord
from experiments.store.words import phrase_in, why_in
from experiments.tally import Tally
from experiments.words import CHINESE, ENGLISH, WHY, WORDS, padded, words_in, wrapped
from tests.claims.test_runner import OWN, silent
from tests.conftest import Writer
from tests.test_cli import Said, Taolu, taolu  # noqa: F401 (a fixture)

ROOT = Path(__file__).parents[1]
HAN = re.compile(r"[\u4e00-\u9fff]")


# ---- texts ----------------------------------------------------------------------------------------------------------


def test_every_text_has_the_same_gaps_in_both_languages() -> None:
    gaps = {key: [set(re.findall(r"{(\w+)", text)) for text in texts] for key, texts in WORDS.items()}
    assert [key for key, (english, chinese) in gaps.items() if english != chinese] == []


def test_no_text_is_empty_or_left_untranslated() -> None:
    assert [key for key, texts in WORDS.items() if not all(texts)] == []
    fixed = {key: [re.sub("{.*?}", "", text) for text in texts] for key, texts in WORDS.items()}
    assert [key for key, texts in fixed.items() if bare(texts[0]) and not HAN.search(texts[1])] == []
    assert [key for key, texts in WORDS.items() if HAN.search(texts[0])] == []


def test_every_shipped_experiment_and_sweep_says_what_it_is_for_in_chinese() -> None:
    assert {*WHY} == {*experiment_names(), *sweep_names()}


def test_every_reason_of_the_judge_is_known_in_chinese() -> None:
    reasons = [
        "the interval is too wide, or lies across the edge of the tolerance",
        "decided by itself (p = 0.03), but not among the 12 claims judged together",
        "the estimate is nan",
        "the interval is not a number",
        "the probe raised ZeroDivisionError: the die is gone",
    ]
    assert all(HAN.search(why_in("zh", reason)) for reason in reasons)
    assert [why_in("en", reason) for reason in reasons] == reasons
    assert why_in("zh", reasons[1]) == "单独看已可判定（p = 0.03），但在一起判定的 12 条命题中尚不能"


def test_sources_reasons_and_figures_of_the_articles_claims_are_known_in_chinese() -> None:
    measured = json.loads((ROOT / "docs/results/claims.json").read_text(encoding="utf-8"))["claims"].values()
    phrases = {phrase for claim in (*all_claims(), *PLANTED) for phrase in (claim.source, claim.reason)}
    phrases |= {str(row["statistic"]) for row in measured}
    untold = {phrase for phrase in phrases if phrase_in("zh", phrase) == phrase}
    assert {phrase for phrase in untold if bare(phrase)} <= {"z = mu + epsilon sigma"}
    assert all(phrase_in("en", phrase) == phrase for phrase in phrases)


def test_a_padded_text_is_as_wide_as_asked_for_in_columns_of_the_terminal() -> None:
    assert [cell_len(padded(text, 8)) for text in ("", "holds", "不成立", "not run")] == [8] * 4
    assert padded("不成立", 8, right=True) == "  不成立"


@settings(max_examples=100)
@given(
    st.lists(st.sampled_from(["ab", " b,", " a", "成", "立，", "（c）", "“未定”。"]), max_size=40), st.integers(4, 30)
)
def test_wrapping_loses_no_letter_and_breaks_neither_before_a_mark_nor_after_a_bracket(
    pieces: list[str], width: int
) -> None:
    lines = wrapped("".join(pieces), width)
    assert "".join("".join(lines).split()) == "".join("".join(pieces).split())
    for line, below in itertools.pairwise(lines):
        assert not below.startswith(("，", "。", "）", "”"))
        assert not line.endswith(("（", "“"))


def test_english_is_wrapped_at_spaces_and_chinese_between_characters() -> None:
    assert wrapped("the variance falls as 1 / B", 12) == ["the variance", "falls as 1 /", "B"]
    assert wrapped("噪声方差按 1/B 下降。", 12) == ["噪声方差按", "1/B 下降。"]


# ---- which language -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        ({}, "en"),
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_TW"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8"}, "en"),
        ({"LC_MESSAGES": "POSIX", "LANG": "zh_CN.UTF-8"}, "en"),
        ({"LC_MESSAGES": "zh_CN.UTF-8", "LANG": "en_GB.UTF-8"}, "zh"),
        ({"LC_ALL": "en_US.UTF-8", "LC_MESSAGES": "zh_CN", "LANG": "zh_CN"}, "en"),
        ({"LC_ALL": "", "LC_MESSAGES": "", "LANG": "zh_CN"}, "zh"),
        ({"LC_CTYPE": "zh_CN.UTF-8"}, "en"),
    ],
    ids=str,
)
def test_the_locale_decides_as_posix_says(locale: dict[str, str], language: str) -> None:
    assert words_in(None, locale).language == language
    assert words_in("en", locale) == ENGLISH
    assert words_in("zh", locale) == CHINESE


def test_another_language_is_refused() -> None:
    with pytest.raises(ConfigError, match="--lang fr: must be one of en, zh; default the locale's"):
        words_in("fr")


def test_verbs_that_print_tables_and_reports_refuse_a_third_language_before_they_work(taolu: Taolu) -> None:  # noqa: F811
    tables = {"demo", "list", "claims", "runs", "show", "diff", "report", "queue", "sweep", "mine", "rules", "lexicon"}
    speaking = {name for name, verb in VERBS.items() if "lang" in verb.options}
    assert tables <= speaking
    refusals = {taolu(verb, "--lang", "fr") for verb in speaking}
    assert refusals == {Said(2, "", "taolu: --lang fr: must be one of en, zh; default the locale's\n")}


def test_an_error_is_english_whatever_the_locale(taolu: Taolu, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    english = [taolu("show", "nosuch").err, taolu("runs", "--limit", "0").err, taolu("claims", "shwo").err]
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    assert [taolu("show", "nosuch").err, taolu("runs", "--limit", "0").err, taolu("claims", "shwo").err] == english
    assert "中还没有运行；开始一个：taolu run vae" in taolu("runs").out
    assert taolu("runs", "--lang", "en").out.startswith("no runs in ")


# ---- tables ---------------------------------------------------------------------------------------------------------


def both(command: Taolu, *words: str) -> tuple[Said, Said]:
    """What the command says in English and in Chinese."""
    return command(*words, "--lang", "en"), command(*words, "--lang", "zh")


def bare(text: str, *known: str) -> list[str]:
    """The English words of a text, but for commands, options, names with a slash or dot, and those that are known."""
    text = re.sub(r"taolu[^，。；：（）\u4e00-\u9fff]*|--\w+|\S*[./_]\S*|\b[0-9a-f]{8,}\b", " ", text)
    return [word for word in re.findall(r"[A-Za-z]{2,}", text) if word not in known]


@pytest.fixture
def runs(writer: Writer) -> Writer:
    """A run, its fork, one of another config that failed, and one whose process is gone."""
    model = {"model.latent_dim": "8", "optimizer.lr": "0.1", "seed": "0"}
    tags = {"taolu.objective": "val/loss min", "purpose": "paper"}
    parent = writer.run("eins", params=model, metrics={"val/loss": [3.0, 2.0], "train/loss": [3.0]}, tags=tags)
    writer.run("zwei", start=9, params={**model, "optimizer.lr": "0.2"}, metrics={"val/loss": [3.0, 1.0]}, tags=tags)
    fork = {**tags, "taolu.parent": parent, "taolu.fork": '{"from_step": 7}'}
    writer.run("drei", start=5, status="FAILED", tags=fork)
    beat = {"host": "elsewhere", "pid": 1, "pid_start": 1.0, "time": 1.0, "rank": 0, "step": 1, "total_steps": 2}
    writer.run("vier", start=6, status="RUNNING", tags={"taolu.heartbeat": json.dumps(beat)})
    for name in ("config.yaml", "checkpoints/last.ckpt", "a/1", "a/2", "a/3", "a/4", "a/5"):
        writer.file(parent, name, "seed: 0\n")
    return writer


NAMES = ("eins", "zwei", "drei", "vier", "vae", "run", "last", "ckpt", "config", "yaml", "model", "latent", "dim", "sd")
OTHERS = ("seed", "optimizer", "lr", "loss", "train", "val", "purpose", "paper")


@pytest.mark.parametrize(
    ("line", "head"),
    [
        ("runs", "运行 名称 实验 状态 开始 用时 val/loss"),
        ("runs --columns run,name,kind,status,started,seconds,objective", "运行 名称 类型 状态 开始 秒数 目标"),
        ("runs --filter status=='RUNNING'", "运行 名称 实验 状态 开始 用时"),
        ("runs --filter seed==5", "没有运行符合筛选条件"),
        ("queue", "队列"),
        ("diff eins zwei", "eins"),
        ("diff eins eins", "eins"),
        ("show eins", "eins"),
        ("show drei", "drei"),
        ("report eins zwei --format markdown", "| 组 | 指标 | 个数 | 均值 | 95 % 区间 | 标准差 |"),
        ("report eins zwei --format latex", r"\begin{tabular}{llrrlr}"),
    ],
    ids=str,
)
def test_a_table_of_runs_has_no_english_word(runs: Writer, taolu: Taolu, line: str, head: str) -> None:  # noqa: F811
    english, chinese = both(taolu, *line.split())
    assert (english.status, chinese.status) == (0, 0)
    assert not HAN.search(english.out)
    assert HAN.search(chinese.out)
    assert head.split() == chinese.out.splitlines()[0].split()[: len(head.split())] or head in chinese.out
    left = bare(chinese.out.replace(str(runs.store.folder), ""), *NAMES, *OTHERS, "tabular", "begin", "end", "toprule")
    assert [word for word in left if not re.fullmatch(r"[0-9a-f]+|llrrlr|midrule|bottomrule|Holm|taolu", word)] == []
    assert len(english.out.splitlines()) == len(chinese.out.splitlines())


@pytest.mark.parametrize("line", ["runs", "show eins", "diff eins zwei", "report eins zwei", "queue", "list", "claims"])
def test_json_is_the_same_in_both_languages(
    runs: Writer,
    taolu: Taolu,  # noqa: F811
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # where report.html goes
    english, chinese = both(taolu, *line.split(), "--json")
    assert english.json == chinese.json
    assert [*map(str, english.json)] == [*map(str, chinese.json)]


def test_csv_is_the_same_in_both_languages(runs: Writer, taolu: Taolu) -> None:  # noqa: F811
    for line in ("runs --csv", "report eins zwei --format csv"):
        english, chinese = both(taolu, *line.split())
        assert english.out == chinese.out != ""


def test_a_page_of_runs_is_chinese_but_for_names(runs: Writer, taolu: Taolu, tmp_path: Path) -> None:  # noqa: F811
    pages = {}
    for language in ("en", "zh"):
        path = tmp_path / f"{language}.html"
        assert taolu("report", "eins", "zwei", "--out", str(path), "--lang", language).status == 0
        pages[language] = path.read_text(encoding="utf-8")
        assert f'<html lang="{language}">' in pages[language]
    text = re.sub("<style>.*?</style>|<[^>]+>", " ", pages["zh"], flags=re.S)
    assert bare(text, *NAMES, *OTHERS, "UTC", "Holm", "Student", "experiment") == []
    assert not HAN.search(pages["en"])
    assert [re.sub(r"<(/?\w+).*", r"\1", tag) for tag in re.findall("<[^>]+>", pages["en"])] == [
        re.sub(r"<(/?\w+).*", r"\1", tag) for tag in re.findall("<[^>]+>", pages["zh"])
    ]


def test_the_list_of_experiments_is_chinese_but_for_names_and_commands(taolu: Taolu) -> None:  # noqa: F811
    english, chinese = both(taolu, "list")
    assert len(english.out.splitlines()) == len(chinese.out.splitlines())
    described = [line for line in chinese.out.splitlines() if line[:1].strip()]
    assert all(HAN.search(line) for line in described)


def test_a_sweep_is_told_in_both_languages() -> None:
    content = {"name": "s", "experiment": "vae", "space": {"optimizer.lr": [0.1, 0.2]}}
    design = design_of({**content, "sampler": "grid", "objectives": {"metric": "val/loss", "direction": "min"}})
    ended = (("COMPLETE", (1.0,), "complete", ""), ("FAIL", (), "error", "no"), ("PRUNED", (), "pruned", ""))
    trials = [
        TrialRecord(i, state, values, {"optimizer.lr": 0.1}, (), end, error, None, 0, 0, {}, None, None)
        for i, (state, values, end, error) in enumerate(ended)
    ]
    tally = Tally.of(design, trials)
    assert next(tally.table(CHINESE)).split()[-2:] == ["标准差", "试验"]
    assert list(tally.table(CHINESE))[1].split() == ["0.1", "1", "0"]  # one seed has no deviation
    assert tally.counts(CHINESE) == "完成 2/2  进行中 0  失败 1  提前结束 1"
    assert list(tally.table(CHINESE))[-2:] == [
        "试验 1（optimizer.lr 0.1）出错: no",
        "试验 2（optimizer.lr 0.1）剪枝",
    ]
    told = list(tally.closing("FINISHED", CHINESE))
    assert told[0].startswith("完成 s: ")
    assert told[-1] == "查看：taolu sweep s --show"
    assert list(tally.closing("FINISHED"))[-1] == "look: taolu sweep s --show"


def test_the_effect_of_a_change_is_told_in_both_languages() -> None:
    pairs = tuple(Pair(seed, 1.0, 2.0 + seed / 10, ("a", "b")) for seed in range(4))
    effect = Effect("0" * 32, "val/elbo", "max", ("lr 1 -> 2",), (*pairs, Pair(4, 1.0, None, ("a", "b"))))
    head, *_, lost, sentence, saved = effect.lines(CHINESE)
    assert head.split() == ["种子", "原运行", "改动后", "差"]
    assert lost == "5 对中有 1 对并非两边都有有限的 val/elbo，未计入"
    assert sentence.endswith("4 对：更好")
    assert saved.startswith("8 次成对的运行")


READ = ("Fisher", "Holm", "basket", "line", "comma", "cells", "by", "utf")  # how the file is written
HABITS = [["牛奶", "面包"], ["牛奶", "面包", "鸡蛋"], ["啤酒", "尿布"], ["啤酒", "尿布", "牛奶"], ["鸡蛋"], ["面包"]]


def test_rules_are_mined_listed_and_compared_in_both_languages(
    taolu: Taolu,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "baskets.csv").write_text("".join(",".join(row) + "\n" for row in HABITS * 20), encoding="utf-8")
    said = taolu("mine", "apriori", "baskets.csv", "--name", "eins", "--lang", "zh").out
    assert bare(said.replace(str(tmp_path), ""), *NAMES, *OTHERS, "in", *READ) == []
    assert taolu("mine", "apriori", "baskets.csv", "--min_support", "0.3", "--json").status == 0
    english, chinese = both(taolu, "rules", "last")
    assert english.out.splitlines()[1].split() == ["rule", "support", "confidence", "lift", "holm"]
    assert chinese.out.splitlines()[1].split() == ["规则", "支持度", "置信度", "提升度", "p", "值(Holm)"]
    assert english.out.split()[-4:] == chinese.out.split()[-4:]
    ids = [row["run_id"] for row in taolu("runs", "--json").json]
    english, chinese = both(taolu, "rules", "diff", *ids)
    assert bare(chinese.out, "Holm") == []
    assert both(taolu, "rules", "last", "--json")[1].json == taolu("rules", "last", "--json").json


def test_words_are_compared_and_scored_in_both_languages(taolu: Taolu, tmp_path: Path) -> None:  # noqa: F811
    for name, text in {"a.txt": "北京 3\n天气 2\n", "b.txt": "北京 1\n朋友 2\n", "cut.txt": "北京 天气\n"}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    a, b, cut = (str(tmp_path / name) for name in ("a.txt", "b.txt", "cut.txt"))
    english, chinese = both(taolu, "lexicon", "diff", a, b)
    assert english.out.splitlines()[0] == "1 words in both, 1 in A alone, 1 in B alone"
    assert chinese.out.splitlines()[:3] == [
        "两者共有 1 个词，仅 A 有 1 个，仅 B 有 1 个",
        "仅 A 有：天气",
        "仅 B 有：朋友",
    ]
    english, chinese = both(taolu, "lexicon", "score", cut, cut)
    assert english.out.splitlines()[0] == "words    precision 1.0000  recall 1.0000  F 1.0000"
    assert chinese.out.splitlines()[0] == "词       精确率 1.0000  召回率 1.0000  F 1.0000"


def test_a_lexicon_is_told_in_both_languages(
    taolu: Taolu,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.txt").write_text("北京天气很好\n我喜欢北京\n天气好我喜欢\n" * 30, encoding="utf-8")
    said = taolu("mine", "lexicon", "t.txt", "--name", "eins", "--lang", "zh").out.replace(str(tmp_path), "")
    assert bare(said, *NAMES, *OTHERS, "in", "MB", "CPU", "FILE", "jieba") == []


# ---- claims ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(template_database: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with a user's claims: one holds, one raised, one fails."""
    folder = tmp_path_factory.mktemp("measured")
    shutil.copy(template_database, folder / "mlflow.db")
    run_claims(["9999"], Settings(files=(OWN,)), locate(str(folder)), silent)
    return str(folder)


@pytest.fixture
def judged(taolu: Taolu, measured: str) -> Callable[..., Said]:  # noqa: F811
    """The verb claims on that store."""
    return lambda *words: taolu("claims", *words, "--store", measured)


def test_verdicts_are_said_in_chinese(judged: Callable[..., Said]) -> None:
    lines = judged("--import", OWN, "--lang", "zh").out.splitlines()
    rows = {words[1]: words[0] for line in lines if len(words := line.split()) > 2}
    assert [rows[name] for name in ("9999-D1", "9999-D2", "9999-D3")] == ["成立", "未定", "不成立"]
    assert rows["5655-S1"] == "未运行"
    counts = f"{len(all_claims()) + 4} 条命题：1 条成立，1 条不成立，2 条未定，{len(all_claims())} 条未运行；"
    assert lines[-1].startswith(counts)
    assert not any(bare(line) for line in lines[-1:])
    assert "骰子六次中有一次是六点。" in judged("--import", OWN, "--lang", "zh").out
    assert "A die shows" not in judged("--import", OWN, "--lang", "zh").out


def test_claims_are_run_shown_and_checked_in_chinese(judged: Callable[..., Said]) -> None:
    said = judged("run", "9999-D1", "9999-D3", "--import", OWN, "--lang", "zh").out.splitlines()
    assert [line.split()[0] for line in said[:2]] == ["成立", "不成立"]
    assert said[2].startswith("2 条命题：1 条成立，1 条不成立，0 条未定；0 个测量程序出错；")
    shown = judged("show", "9999-D1", "--import", OWN, "--lang", "zh").out
    heads = [line[2:].split("  ")[0] for line in shown.splitlines()[2:]]
    assert [head for head in heads if head] == [
        *("公式", "出处", "断言", "规则", "测量程序", "测得", "判定", "运行", "代价", "再跑一次")
    ]
    assert shown.splitlines()[0] == "9999-D1  原文  成立"
    assert "90 % 区间落在 0.14667 与 0.18667 之间则成立" in "".join(line.strip() for line in shown.splitlines())
    checked = judged("check", "5655-S1", "--lang", "zh").out.splitlines()
    assert checked[0].split()[1:] == ["成立", "->", "未运行"]
    assert checked[1] == "1 条命题中 0 条与 claims.lock 一致；taolu claims run 重新测量"


@pytest.mark.parametrize(("language", "title"), [("en", "Claims and verdicts"), ("zh", "命题与判定")])
def test_the_report_on_claims_is_a_page_of_one_language(
    judged: Callable[..., Said], tmp_path: Path, language: str, title: str
) -> None:
    place = str(tmp_path / "claims.html")
    assert judged("report", "--import", OWN, "--output", place, "--lang", language).status == 0
    page, text = (Path(place).with_suffix(end).read_text(encoding="utf-8") for end in (".html", ".md"))
    assert page.startswith(f'<!doctype html><html lang="{language}">')
    assert f"<h1>{title}</h1>" in page
    assert text.startswith(f"# {title}\n")
    heads = re.findall("<th>(.*?)</th>", page)
    assert (
        heads
        == {
            "en": ["claim", "statement", "claimed", "measured", "verdict"],
            "zh": ["命题", "陈述", "断言", "测得", "判定"],
        }[language]
    )
    badges = re.findall(r'class="(holds|fails|undetermined)">(.*?)<', page)
    assert {*badges} == {(name, WORDS[name][language == "zh"]) for name in ("holds", "fails", "undetermined")}
    if language == "en":
        assert not HAN.search(re.sub(r"<math.*?</math>", "", page))
    else:
        prose = re.sub(r"<style>.*?</style>|<math.*?</math>|<svg.*?</svg>|<span lang=en>.*?</span>", "", page)
        assert "A die shows" not in page
        assert [word for word in ("holds<", "fails<", "claimed", "measured", "as written") if word in prose] == []


def test_the_picture_of_a_claim_has_its_legend_in_chinese(judged: Callable[..., Said], tmp_path: Path) -> None:
    judged("report", "--import", OWN, "--output", str(tmp_path), "--lang", "zh")
    pictures = re.findall(r"<svg.*?</svg>", (tmp_path / "claims.html").read_text(encoding="utf-8"))
    texts = [re.findall(r">([^<]+)</text>", picture) for picture in pictures]
    assert all({"测得", "理论"} <= {*found} for found in texts)
    assert all(any("断言：等于" in text for text in found) for found in texts)
