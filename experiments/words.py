"""What the command says in tables, sentences and reports, in English and Chinese; help and error lines are English."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len  # Chinese characters are two columns wide

from experiments.errors import ConfigError
from experiments.store.questions import Language
from experiments.store.words import SHARED

LANGUAGES: tuple[Language, ...] = ("en", "zh")
LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")  # POSIX: the first that is set and not empty decides
_NOT_AT_START, _NOT_AT_END = "，。；：、！？）》」”…％,.;:!?)]", "（《「“"  # of a line

# Key -> English, Chinese.
WORDS: dict[str, tuple[str, str]] = {
    **{key: (text, SHARED["zh"][key]) for key, text in SHARED["en"].items()},
    # states as MLflow writes them
    "FINISHED": ("FINISHED", SHARED["zh"]["FINISHED"]),
    "FAILED": ("FAILED", SHARED["zh"]["FAILED"]),
    "KILLED": ("KILLED", SHARED["zh"]["KILLED"]),
    "RUNNING": ("RUNNING", SHARED["zh"]["RUNNING"]),
    "SCHEDULED": ("SCHEDULED", SHARED["zh"]["SCHEDULED"]),
    # kinds of runs
    "kind_run": ("run", "训练"),
    "kind_sweep": ("sweep", "扫描"),
    "kind_trial": ("trial", "试验"),
    "kind_evaluation": ("evaluation", "评估"),
    "kind_claim": ("claim", "命题"),
    "kind_features": ("features", "特征"),
    "kind_lexicon": ("lexicon", "词库"),
    "kind_rules": ("rules", "规则"),
    # columns of tables
    "column_run": ("run", "运行"),
    "column_run_id": ("run_id", "运行编号"),
    "column_name": ("name", "名称"),
    "column_experiment": ("experiment", "实验"),
    "column_kind": ("kind", "类型"),
    "column_status": ("status", "状态"),
    "column_started": ("started", "开始"),
    "column_ended": ("ended", "结束"),
    "column_took": ("took", "用时"),
    "column_seconds": ("seconds", "秒数"),
    "column_note": ("note", "备注"),
    "column_objective": ("objective", "目标"),
    "column_rule": ("rule", "规则"),
    "column_antecedents": ("antecedents", "前件"),
    "column_consequents": ("consequents", "后件"),
    "column_support": ("support", "支持度"),
    "column_confidence": ("confidence", "置信度"),
    "column_lift": ("lift", "提升度"),
    "column_leverage": ("leverage", "杠杆率"),
    "column_conviction": ("conviction", "确信度"),
    "column_p_value": ("p_value", "p 值"),
    "column_holm": ("holm", "p 值(Holm)"),
    "column_fdr": ("fdr", "q 值(FDR)"),
    "column_confidence after": ("confidence after", "后来的置信度"),
    "column_lift after": ("lift after", "后来的提升度"),
    "column_sd": ("sd", "标准差"),
    "column_trials": ("trials", "试验"),
    # times
    "took_minutes": ("{minutes}:{seconds:02d} min", "{minutes}:{seconds:02d} 分"),
    "took_seconds": ("{seconds:.1f} s", "{seconds:.1f} 秒"),
    "ago_day": ("{n} day ago", "{n} 天前"),
    "ago_days": ("{n} days ago", "{n} 天前"),
    "ago_hour": ("{n} hour ago", "{n} 小时前"),
    "ago_hours": ("{n} hours ago", "{n} 小时前"),
    "ago_min": ("{n} min ago", "{n} 分钟前"),
    "just_now": ("just now", "刚刚"),
    # runs, show
    "runs_none": ("no runs in {store}; start one: taolu run vae", "{store} 中还没有运行；开始一个：taolu run vae"),
    "runs_no_match": ("no run fits the filter", "没有运行符合筛选条件"),
    "running_dead": ("RUNNING (dead)", "进行中（进程已死）"),
    "dead_hint": (
        "dead: the process is gone; mark such runs FAILED with: taolu runs --reap",
        "进程已死：进程不在了；把这样的运行标记为失败：taolu runs --reap",
    ),
    "shown_state": (
        "{status}  experiment {experiment}  kind {kind}  started {started}  took {took}",
        "{status}  实验 {experiment}  类型 {kind}  开始 {started}  用时 {took}",
    ),
    "shown_config": ("config (without what is off or null)", "配置（不含关闭与空的设置）"),
    "shown_values": ("last values", "最后的值"),
    "shown_objective": ("(the objective)", "（目标）"),
    "shown_tags": ("tags", "标签"),
    "shown_files": ("files in {folder}", "{folder} 中的文件"),
    "fork_of": ("fork of {run}", "分叉自 {run}"),
    "evaluation_of": ("evaluation of {run}", "评估的是 {run}"),
    "fork_list": ("forks: {runs}", "分叉：{runs}"),
    "evaluation_list": ("evaluations: {runs}", "评估：{runs}"),
    "and_more": (" and {n} more", "，另有 {n} 次"),
    "at_step": (" (step {step})", "（第 {step} 步）"),
    "again": ("again: {command}", "再跑一次：{command}"),
    "go_on": ("go on: {command}", "继续：{command}"),
    "browse": ("browse: taolu dashboard", "浏览：taolu dashboard"),
    "many_files": ("{folder}/  {n} files", "{folder}/  {n} 个文件"),
    # sweeps
    "study_head": ("{name}  {counts}  sweep's run {run}", "{name}  {counts}  扫描的运行 {run}"),
    "study_more": ("more: optuna-dashboard {url}", "更多：optuna-dashboard {url}"),
    "tally_done": ("{done} done", "完成 {done}"),
    "tally_done_of": ("{done}/{planned} done", "完成 {done}/{planned}"),
    "tally_running": ("{n} running", "进行中 {n}"),
    "tally_failed": ("{n} failed", "失败 {n}"),
    "tally_diverged": ("{n} diverged", "发散 {n}"),
    "tally_cut_short": ("{n} cut short", "提前结束 {n}"),
    "tally_best": ("best {metric} {value} ({point})", "最佳 {metric} {value}（{point}）"),
    "tally_left_seconds": ("left {n:.0f} s", "还需 {n:.0f} 秒"),
    "tally_left_minutes": ("left {n:.0f} min", "还需 {n:.0f} 分钟"),
    "trial_failed": ("trial {n} ({point}) failed: {error}", "试验 {n}（{point}）失败：{error}"),
    "trial_ended": ("trial {n} ({point}) {what}", "试验 {n}（{point}）{what}"),
    "end_fail": ("fail", "失败"),
    "end_error": ("error", "出错"),
    "end_stopped": ("stopped", "被停止"),
    "end_killed": ("killed", "被终止"),
    "end_diverged": ("diverged", "发散"),
    "end_pruned": ("pruned", "剪枝"),
    "end_timed out": ("timed out", "超时"),
    "end_running": ("running", "进行中"),
    "end_waiting": ("waiting", "等待中"),
    "look_at": ("look: {command}", "查看：{command}"),
    "plan_count": ("{n} trials", "{n} 个试验"),
    "plan_until_time": ("trials until the time is over", "试验直到时间用完"),
    "plan_grid": (" ({cells} cells x {seeds} seeds)", "（{cells} 格 x {seeds} 个种子）"),
    "plan_sampler": (" by {sampler}", "，由 {sampler} 采样"),
    "plan_steps": ("; the first would take {steps} steps", "；第一个需 {steps} 步"),
    "plan": ("{name}: {runs}{seeds}{length}; nothing was written", "{name}：{runs}{seeds}{length}；没有写入任何东西"),
    # claims
    "claims": ("Claims and verdicts", "命题与判定"),
    "questions": ("Questions", "问题"),
    "verdicts": ("Verdicts", "判定"),
    "claim_head_claim": ("claim", "命题"),
    "claim_head_statement": ("statement", "陈述"),
    "claim_head_formula": ("formula", "公式"),
    "claim_head_claimed": ("claimed", "断言"),
    "claim_head_measured": ("measured", "测得"),
    "claim_head_verdict": ("verdict", "判定"),
    "band_equals": ("equals {value}", "等于 {value}"),
    "band_at_most": ("at most {value}", "至多 {value}"),
    "band_at_least": ("at least {value}", "至少 {value}"),
    "exact": ("{value} exact", "{value}（精确）"),
    "claims_total": (
        "{n} claims: {counts}; taolu claims show ID says more, taolu claims run runs them",
        "{n} 条命题：{counts}；详情：taolu claims show ID，运行：taolu claims run",
    ),
    "count_of_verdict": ("{n} {verdict}", "{n} 条{verdict}"),
    "between_counts": (", ", "，"),
    "claims_ran": (
        "{n} claims: {counts}; {failed} probes raised; {seconds:.1f} CPU-s",
        "{n} 条命题：{counts}；{failed} 个测量程序出错；{seconds:.1f} CPU 秒",
    ),
    "claim_line": ("{figure}; claimed: {band}", "{figure}；断言：{band}"),
    "claim_why": ("; {why}", "；{why}"),
    "claim_failed": ("{why}; taolu show {run}", "{why}；taolu show {run}"),
    "field_formula": ("formula", "公式"),
    "field_source": ("source", "出处"),
    "field_claimed": ("claimed", "断言"),
    "field_rule": ("rule", "规则"),
    "field_probe": ("probe", "测量程序"),
    "field_measured": ("measured", "测得"),
    "field_judged": ("judged", "判定"),
    "field_run": ("run", "运行"),
    "field_cost": ("cost", "代价"),
    "field_again": ("again", "再跑一次"),
    "judged_because": ("{verdict}: {why}", "{verdict}：{why}"),
    "claim_settings": ("seed {seed}, effort {effort}", "种子 {seed}，投入 {effort}"),
    "effort_quick": ("quick", "快速"),
    "effort_full": ("full", "完整"),
    "claim_cost": (
        "{seconds:.2f} CPU-s, {points} points, see plot.png",
        "{seconds:.2f} CPU 秒，{points} 个点，见 plot.png",
    ),
    "claim_raised": ("the probe raised: taolu show {run}", "测量程序出错：taolu show {run}"),
    "claim_claimed": ("claimed: {band} ({reason})", "断言：{band}（{reason}）"),
    "claim_form": ("{form}; {source}", "{form}；{source}"),
    "plot_caption": ("{figure}; claimed: {band}; {verdict}", "{figure}；断言：{band}；{verdict}"),
    "plot_measured": ("measured", "测得"),
    "plot_theory": ("theory", "理论"),
    "plot_claimed": ("claimed", "断言"),
    "report_written": ("written: {page} and {text}", "已写入：{page} 与 {text}"),
    "written": ("written: {path}", "已写入：{path}"),
    "lock_written": ("{n} verdicts written to claims.lock", "{n} 条判定已写入 claims.lock"),
    "lock_as": ("{n} of {total} claims as in claims.lock{hint}", "{total} 条命题中 {n} 条与 claims.lock 一致{hint}"),
    "lock_hint": ("; taolu claims run measures anew", "；taolu claims run 重新测量"),
    "not_locked": ("not locked", "未锁定"),
    # diff
    "nothing_differs": ("no difference in {what}{values}", "{what}没有差别{values}"),
    "all_compared": ("config, code, packages, machine, data and metrics", "配置、代码、软件包、机器、数据与指标"),
    "values_compared": (" ({n} values)", "（{n} 个值）"),
    "diff_config": ("config", "配置"),
    "diff_code": ("code", "代码"),
    "diff_packages": ("packages", "软件包"),
    "diff_machine": ("machine", "机器"),
    "diff_data": ("data", "数据"),
    "diff_metrics": ("metrics, last values", "指标的最后值"),
    "first_step": ("values differ from step {step} on", "自第 {step} 步起值不同"),
    "noise_unknown": (
        "noise: unknown; no other finished run of either config, of another seed or rerun",
        "噪声：未知；两种配置都没有其他种子或重跑的已完成运行",
    ),
    "diff_noise": ("noise {sd:.2g}, {n} {of}", "噪声 {sd:.2g}，{n} 次{of}"),
    "noise_of_seeds": ("seeds", "不同种子"),
    "noise_of_reruns": ("reruns", "重跑"),
    "times_noise": ("{ratio:.1f} x {noise}", "{ratio:.1f} 倍{noise}"),
    "above_noise": ("above {noise}", "高于{noise}"),
    "no_value": ("(none)", "（无）"),
    "lines_more": ("... and {n} more; --json has them", "……还有 {n} 行；--json 全部给出"),
    # reports of runs
    "report_group": ("group", "组"),
    "report_metric": ("metric", "指标"),
    "report_n": ("n", "个数"),
    "report_mean": ("mean", "均值"),
    "report_interval": ("95 % interval", "95 % 区间"),
    "report_sd": ("sd", "标准差"),
    "report_more": (" and {n} more", "，另有 {n} 个"),
    "n_lost": ("{n} ({lost} not finite)", "{n}（{lost} 个非有限）"),
    "unknown": ("unknown", "未知"),
    "not_tested": ("not tested: fewer than two seeds in both", "未检验：两边共有的种子不足两个"),
    "tested": (
        "{difference} {interval}, {n} pairs, p = {p:.2g}",
        "{difference} {interval}，{n} 对，p = {p:.2g}",
    ),
    "minus": ("{metric}, {group} minus {first}: {sentence}", "{metric}，{group} 减 {first}：{sentence}"),
    "unfinished": ("{n} runs that did not finish", "{n} 次没有完成的运行"),
    "repeated": ("{n} runs whose seed a newer one has", "{n} 次种子另有更新运行的运行"),
    "report_left_out": ("; left out: {what}", "；未计入：{what}"),
    "report_values": ("Last values, over seeds", "各种子最后值的统计"),
    "report_tests": ("Minus {first}, seed by seed", "与 {first} 之差，逐种子配对"),
    "report_paired": ("paired difference", "配对差"),
    "report_tests_hint": (
        "Student's t of the differences between runs of one seed; p corrected by Holm.",
        "对同一种子的运行之差作 Student t 检验；p 经 Holm 校正。",
    ),
    "report_key": ("key", "键"),
    "report_value": ("value", "值"),
    "report_group_n": ("group {n}", "第 {n} 组"),
    "report_differ": ("What the configs differ in", "配置的不同之处"),
    "report_share": ("What they share", "配置的相同之处"),
    "report_not_alike": ("Not alike:", "不一致："),
    "report_commits": ("the runs have {n} commits of the code: {values}", "这些运行的代码有 {n} 个提交：{values}"),
    "report_digests": ("the runs have {n} contents of the data: {values}", "这些运行的数据有 {n} 种内容：{values}"),
    "report_name": ("name", "名称"),
    "report_run": ("run", "运行"),
    "report_seed": ("seed", "种子"),
    "report_config": ("config", "配置"),
    "report_runs": ("{n} runs", "{n} 次运行"),
    "report_curves": ("Curves", "曲线"),
    "report_drawn": ("{n} of {total} runs are drawn.", "画出 {total} 次运行中的 {n} 次。"),
    "report_step": ("step", "步"),
    "report_pictures": ("Pictures", "图片"),
    "report_pictures_hint": ("The last of the first run of each group.", "每组第一次运行的最后一张。"),
    "report_pictures_left": (
        "{n} further pictures are left out: more than {megabytes:.0f} MB.",
        "另有 {n} 张图片未收入：超过 {megabytes:.0f} MB。",
    ),
    "report_caption": ("{group}: {name}, step {step}, {run}", "{group}：{name}，第 {step} 步，{run}"),
}


@dataclass(frozen=True)
class Words:
    """The texts of one language.

    >>> ENGLISH("ago_days", n=3), CHINESE("ago_days", n=3)
    ('3 days ago', '3 天前')

    Args:
        language: en or zh.
    """

    language: Language

    def __call__(self, key: str, **gaps: object) -> str:
        """The text of this key, its {gaps} filled."""
        return WORDS[key][LANGUAGES.index(self.language)].format(**gaps)

    def known(self, key: str, otherwise: str) -> str:
        """The text of this key; `otherwise` where there is none, as for a column that a user named."""
        return self(key) if key in WORDS else otherwise

    def of(self, record: Mapping[str, Any], key: str) -> str:
        """The record's own text in this language: English under the key, Chinese under the key with _zh."""
        return str(record[key if self.language == "en" else f"{key}_zh"])


ENGLISH, CHINESE = Words("en"), Words("zh")


def words_in(language: str | None, environment: Mapping[str, str] = os.environ) -> Words:
    """The words of this language; without one, of the locale: Chinese where it is any zh, else English.

    Raises ConfigError for another language.

    >>> words_in(None, {"LANG": "zh_CN.UTF-8"}).language, words_in(None, {"LC_ALL": "C", "LANG": "zh_CN"}).language
    ('zh', 'en')
    """
    if language is None:
        locale = next((environment[name] for name in LOCALE if environment.get(name)), "")
        return CHINESE if locale.lower().startswith("zh") else ENGLISH
    if language not in LANGUAGES:
        raise ConfigError(f"--lang {language}: must be one of {', '.join(LANGUAGES)}; default the locale's")
    return CHINESE if language == "zh" else ENGLISH


def padded(text: str, width: int, *, right: bool = False) -> str:
    """The text as wide as so many columns of a terminal, at their right end where asked for.

    >>> padded("成立", 6) + "|", padded("a", 3, right=True)
    ('成立  |', '  a')
    """
    gap = " " * (width - cell_len(text))
    return gap + text if right else text + gap


def aligned(rows: list[list[str]]) -> Iterator[str]:
    """The rows with their cells below one another, two spaces between."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most so many columns: broken at spaces, and between Chinese characters.

    >>> wrapped("噪声方差按 1/B 下降。", 10)
    ['噪声方差按', '1/B 下降。']
    """
    lines = [""]
    for piece in _pieces(text):
        if cell_len(lines[-1] + piece.rstrip()) > width and lines[-1].strip():
            lines.append("")
            piece = piece.lstrip()
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def _pieces(text: str) -> Iterator[str]:
    """What stays on one line: a word with the space before it, a Chinese character with the marks behind it."""
    piece = ""
    for letter in text:
        is_border = letter == " " or _is_wide(letter) or _is_wide(piece[-1:])
        if piece and is_border and letter not in _NOT_AT_START and piece[-1] not in _NOT_AT_END:
            yield piece
            piece = ""
        piece += letter
    if piece:
        yield piece


def _is_wide(letter: str) -> bool:
    return cell_len(letter) > 1
