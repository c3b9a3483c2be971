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
    "sweep_opening": (
        "sweep {run} {name}  {trials}  workers {workers}  store {store}",
        "扫描 {run} {name}  {trials}  工作进程 {workers}  存储 {store}",
    ),
    "sweep_waits": (
        "{status} {name}; workers: taolu sweep worker {name} {where}",
        "{status} {name}；加入工作进程：taolu sweep worker {name} {where}",
    ),
    "sweep_local": (
        "of this machine only: machines share a sweep through --store postgresql://...",
        "仅限本机：多台机器通过 --store postgresql://... 共享一次扫描",
    ),
    "any_trials": ("any number of trials", "试验数不限"),
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
    # mining
    "baskets_read": (
        "{name}: {baskets:,} baskets, {items:,} items, {mean:.1f} a basket",
        "{name}：{baskets:,} 个篮子，{items:,} 种物品，每篮 {mean:.1f} 个",
    ),
    "baskets_in_parts": ("{name}: mined in parts", "{name}：分块挖掘"),
    "baskets_duplicates": ("duplicates counted once", "个重复只计一次"),
    "baskets_missing": ("missing left out", "个缺失值略去"),
    "baskets_empty": ("empty baskets", "个空篮"),
    "baskets_without a basket": ("without a basket", "个不属于任何篮子"),
    "baskets_layout": (" (read as {layout})", "（按 {layout} 读取）"),
    "chosen": ("chosen: {what}", "自动选定：{what}"),
    "chosen_support": (
        "support {share:g} (for at most about {n:,} itemsets)",
        "支持度 {share:g}（项集至多约 {n:,} 个）",
    ),
    "chosen_confidence": ("confidence {share:g}", "置信度 {share:g}"),
    "chosen_significance": (
        "rules significant at {level:.0%} (Fisher, Holm)",
        "规则在 {level:.0%} 水平显著（Fisher，Holm）",
    ),
    "chosen_redundant": ("none redundant", "去掉冗余规则"),
    "one_head": (
        "{n:,} rules are possible: heads are of one item (--max_head N for more)",
        "可能的规则有 {n:,} 条：后件只取一个物品（要更多：--max_head N）",
    ),
    "itemsets_found": (
        "{n:,} itemsets in at least {least:,} of {baskets:,} baskets ({share:.3g}), {seconds:.2f} s",
        "{n:,} 个项集，出现于 {baskets:,} 个篮子中的至少 {least:,} 个（{share:.3g}），{seconds:.2f} 秒",
    ),
    "incomplete": (
        "INCOMPLETE: the budget ended the search; raise --min_support, --budget_itemsets, _seconds or _megabytes",
        "不完整：预算用尽；提高 --min_support、--budget_itemsets、_seconds 或 _megabytes",
    ),
    "of_length": ("length {length}: {n:,}", "长度 {length}：{n:,}"),
    "rules_found": ("{n:,} rules", "{n:,} 条规则"),
    "rules_best": ("{n:,} rules, the best:", "{n:,} 条规则，最好的："),
    "rules_filter": (
        "filter the rules: taolu rules {run} --item X --min_lift 2   look: taolu dashboard",
        "筛选规则：taolu rules {run} --item X --min_lift 2   查看：taolu dashboard",
    ),
    "rules_of": ("{n:,} of {total:,} rules", "{total:,} 条规则中的 {n:,} 条"),
    "rules_shown": (", {n} shown", "，列出 {n} 条"),
    "rules_lost": ("{n:,} rules only in the first", "仅在第一次运行中的规则：{n:,}"),
    "rules_won": ("{n:,} rules only in the second", "仅在第二次运行中的规则：{n:,}"),
    "rules_changed": (
        "{n:,} rules in both with other figures, {equal:,} as they were",
        "两次都有而数值不同的规则：{n:,}；相同的：{equal:,}",
    ),
    "lexicon_read": (
        (
            "{sources}: {megabytes:.2f} MB, {characters:,} characters, {units:,} units in {segments:,} segments; "
            "{seconds:.1f} CPU-s, {speed:.2f} MB/s"
        ),
        (
            "{sources}：{megabytes:.2f} MB，{characters:,} 个字符，{segments:,} 段共 {units:,} 个单元；"
            "{seconds:.1f} CPU 秒，{speed:.2f} MB/s"
        ),
    ),
    "lexicon_found": (
        "{n:,} words; bits a character {before:.3f} before, {after:.3f} after",
        "{n:,} 个词；每字比特数由 {before:.3f} 降为 {after:.3f}",
    ),
    "lexicon_best": ("best: {words}", "最好的：{words}"),
    "lexicon_no_words": ("none of more than one unit", "没有多于一个单元的词"),
    "lexicon_known": ("known to {dictionary}: {share:.1%}", "{dictionary} 已收：{share:.1%}"),
    "lexicon_new": ("new: {words}", "新词：{words}"),
    "none": ("none", "无"),
    "lexicon_compare": (
        "new words: compare with a dictionary, --known FILE or --known jieba",
        "新词：与词典比较，--known FILE 或 --known jieba",
    ),
    "lexicon_gold": (
        (
            "against the original spaces: F of words {token_f:.3f}, of borders {border_f:.3f} "
            "(precision {border_precision:.3f}, recall {border_recall:.3f})"
        ),
        (
            "与原文空格比较：词的 F {token_f:.3f}，边界的 F {border_f:.3f}"
            "（精确率 {border_precision:.3f}，召回率 {border_recall:.3f}）"
        ),
    ),
    "lexicon_next": (
        "cut a text: taolu segment TEXT --lexicon {run}   look: taolu dashboard",
        "切分文本：taolu segment TEXT --lexicon {run}   查看：taolu dashboard",
    ),
    "lexicon_both": (
        "{both:,} words in both, {first:,} in A alone, {second:,} in B alone",
        "两者共有 {both:,} 个词，仅 A 有 {first:,} 个，仅 B 有 {second:,} 个",
    ),
    "lexicon_alone": ("{name} alone: {words}", "仅 {name} 有：{words}"),
    "lexicon_ratios": ("share in B over that in A: {words}", "在 B 中的占比与在 A 中之比：{words}"),
    "score_words": ("words", "词"),
    "score_borders": ("borders", "边界"),
    "score": ("precision {p:.4f}  recall {r:.4f}  F {f:.4f}", "精确率 {p:.4f}  召回率 {r:.4f}  F {f:.4f}"),
    # the queue
    "queue_empty": (
        "the queue of {store} is empty; fill it: taolu queue add vae",
        "{store} 的队列是空的；加入一项：taolu queue add vae",
    ),
    "queue_item": ("item", "项目"),
    "queue_state": ("state", "状态"),
    "queue_run": ("run", "运行"),
    "queue_command": ("command", "命令"),
    "state_waiting": ("waiting", "等待中"),
    "state_running": ("running", "进行中"),
    "state_done": ("done", "完成"),
    "state_failed": ("failed", "失败"),
    "queue_orphan": (
        "its worker is gone; the next one takes it",
        "它的工作进程已不在；由下一个接手",
    ),
    "queue_counts": (
        "{waiting} waiting, {running} running; store {store}",
        "等待中 {waiting}，进行中 {running}；存储 {store}",
    ),
    "queue_work": ("; run: taolu worker", "；运行：taolu worker"),
    # the effect of a change
    "pair_seed": ("seed", "种子"),
    "pair_parent": ("parent", "原运行"),
    "pair_changed": ("changed", "改动后"),
    "pair_difference": ("difference", "差"),
    "pairs_lost": (
        "{lost} of {n} pairs have no finite {metric} on both sides and are left out",
        "{n} 对中有 {lost} 对并非两边都有有限的 {metric}，未计入",
    ),
    "pairs_none": (
        "no interval: it takes two pairs with a finite value on both sides",
        "没有区间：至少需要两对两边都有有限值的运行",
    ),
    "effect": (
        "{metric} ({mode}): {changes}: {mean:+.4g}, 95 % interval [{low:+.4g}, {high:+.4g}], {n} pairs: {verdict}",
        "{metric}（{mode}）：{changes}：{mean:+.4g}，95 % 区间 [{low:+.4g}, {high:+.4g}]，{n} 对：{verdict}",
    ),
    "mode_max": ("max", "越大越好"),
    "mode_min": ("min", "越小越好"),
    "effect_none": ("no effect seen", "看不出效果"),
    "effect_better": ("better", "更好"),
    "effect_worse": ("worse", "更差"),
    "effect_saved": (
        "{paired} paired runs; about {independent} independent ones would give an interval as narrow",
        "{paired} 次成对的运行；同样窄的区间约需 {independent} 次独立的运行",
    ),
    # list
    "list_sweeps": ("sweeps: taolu sweep NAME", "扫描：taolu sweep 名称"),
    "list_hint": (
        "taolu run NAME --help shows an experiment's options; FILE.yaml and FILE.py:Class run your own",
        "taolu run 名称 --help 列出实验的选项；FILE.yaml 与 FILE.py:Class 运行你自己的",
    ),
    # demo
    "demo_begins": ("training; runs go to {store}", "开始训练；运行保存于 {store}"),
    "demo_browser": (
        "see them in the browser: taolu dashboard   (http://127.0.0.1:8501)",
        "在浏览器中查看：taolu dashboard   (http://127.0.0.1:8501)",
    ),
    "demo_next": ("next:", "接下来："),
    "demo_verdict": ("{verdict}: {what}", "{verdict}：{what}"),
    "demo_vae": ("VAE, {n} epochs on 1,437 digits", "VAE，1,437 个数字训练 {n} 轮"),
    "demo_vae_number": (
        "ELBO {first:.1f} -> {last:.2f} nats, FID {fid:.1f}",
        "ELBO {first:.1f} -> {last:.2f} 奈特，FID {fid:.1f}",
    ),
    "demo_vae_verdict": ("each quarter of the run beats the last", "每四分之一都优于前一个"),
    "demo_gan": ("SN-GAN, {n} epochs on 1,437 digits", "SN-GAN，1,437 个数字训练 {n} 轮"),
    "demo_gan_number": (
        "FID {fid:.1f}, critic's constant in [{low:.2f}, {high:.2f}]",
        "FID {fid:.1f}，判别器的常数在 [{low:.2f}, {high:.2f}] 内",
    ),
    "demo_gan_verdict": ("at most 1, {lag:.0%} for a lag", "至多 1，另留 {lag:.0%} 给滞后"),
    "demo_gpt": ("GPT-2, {n:,} steps on Python's help", "GPT-2，在 Python 帮助文档上走 {n:,} 步"),
    "demo_gpt_number": (
        "{first:.2f} -> {last:.2f} bits a byte of text held out",
        "留出文本每字节 {first:.2f} -> {last:.2f} 比特",
    ),
    "demo_gpt_verdict": ("each validation beats the last", "每次验证都优于上一次"),
    "demo_paths": ("Momentum, {n} cells of (lr, beta)", "动量，(lr, beta) 的 {n} 格"),
    "demo_paths_number": (
        "{share:.0%} reach the global minimum; beta 0: {without:.0%}",
        "{share:.0%} 到达全局极小点；beta 为 0：{without:.0%}",
    ),
    "demo_paths_verdict": ("only momentum leaves the poor one", "只有动量能离开差的极小点"),
    "demo_sweep": ("Sweep, {n} runs over lr and batch size B", "扫描，对 lr 与批大小 B 的 {n} 次运行"),
    "demo_sweep_number": (
        "loss within {apart:.1%} at equal lr / B, else {most:.1f}x",
        "lr / B 相同时损失相差 {apart:.1%}，否则 {most:.1f} 倍",
    ),
    "demo_sweep_verdict": ("lr / B alone counts, to {least:.0%}", "只有 lr / B 起作用，精度 {least:.0%}"),
    "demo_rules": ("Apriori, imports of {n} stdlib modules", "Apriori，{n} 个标准库模块的导入"),
    "demo_rules_number": ("{itemsets:,} itemsets, {rules:,} rules", "{itemsets:,} 个项集，{rules:,} 条规则"),
    "demo_rules_verdict": ("the article's algorithm agrees", "与文章的算法一致"),
    "demo_lexicon": ("Words of Python's help without spaces", "去掉空格的 Python 帮助文档中的词"),
    "demo_lexicon_number": (
        "{n:,} words, {units:.2f} -> {words:.2f} bits a letter",
        "{n:,} 个词，每字母 {units:.2f} -> {words:.2f} 比特",
    ),
    "demo_lexicon_verdict": ("F of borders {f:.2f}, at least .8", "边界的 F 为 {f:.2f}，至少 .8"),
    "demo_claims": ("{n} claims of the articles", "文章的 {n} 条命题"),
    "demo_claims_number": ("{holds} hold, {fails} fail as written", "{holds} 条成立，{fails} 条照原文不成立"),
    "demo_claims_verdict": ("verdicts as committed", "判定与提交的一致"),
}

# What each experiment and sweep is for, in Chinese; in English it stands at the head of its file.
WHY: dict[str, str] = {
    "classifier": "网络小到足以在每一步测量其噪声与锐度（kexue.fm/archives/5655）。",
    "dirac_gan": "两个点的 GAN：看哪种约束能让训练静止下来（kexue.fm/archives/6583）。",
    "gan_gaussians": "在平面上可以直接看到判别器，并数出生成器到达的模态。",
    "gan_plain": "对照：判别器不受任何约束（Goodfellow 等 2014），与 wgan、wgan_gp、sngan 并列。",
    "gpt2_finetune": "公开的 GPT-2 在你的文本上继续学习，全部权重或 LoRA 的少数权重。",
    "gpt2_ml_finetune": "在一张卡上微调 GPT2_ML 的 13.9 亿个权重，kexue.fm/archives/7292 未能做到。",
    "gpt2_pydoc": "GPT-2 从零学习 Python 自带的文档，并胜过 n 元计数（kexue.fm/archives/7292）。",
    "gpt2_zh": "任意中文文本（给出路径），逐字，从零学起。",
    "lipschitz_classifier": "Lipschitz 常数更小的分类器，对输入与权重的扰动是否更稳定（kexue.fm/archives/6051）？",
    "paths": "动量越过梯度下降停留的差的极小点，但只在某些摩擦下（kexue.fm/archives/5655）。",
    "sngan": "判别器的每一层除以其谱范数（kexue.fm/archives/6051；Miyato 等 2018）。",
    "vae": "变分自编码器学出手写数字的二维地图（kexue.fm/archives/5383）。",
    "wgan": "第一个约束 Lipschitz 常数的判别器：截断权重（kexue.fm/archives/6051）。",
    "wgan_gp": "对判别器在真样本与生成样本之间的梯度加惩罚（kexue.fm/archives/6051）。",
    "adaptive_vs_sgd": "自适应学习率容忍选得不好的 lr；各取最佳时它更好吗？（kexue.fm/archives/6234）",
    "edge_of_stability": "全批下降变得越来越尖锐，直到 lr 乘最大曲率为 2，并停在那里（kexue.fm/archives/5655，S3）。",
    "sgd_batch_lr": "SGD 的噪声，连同静止时的损失，由 lr / 批大小决定（kexue.fm/archives/5655，S2）。",
    "sgd_momentum": "动量使步长为 lr / (1 - beta)；lr 乘 r，beta 取 1 - (1 - beta) sqrt(r)（kexue.fm/archives/5655）。",
    "sgd_schedules": "先用小批与大 lr，再增大前者或减小后者（kexue.fm/archives/5655，S6）。",
    "vae_quality": "留出图像的似然（val/nll）与样本的逼真程度（val/fid）是两个问题（kexue.fm/archives/5383）。",
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

    def why(self, name: str, english: str) -> str:
        """What a shipped experiment or sweep is for; the English where no other was written."""
        return english if self.language == "en" else WHY.get(name, english)

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
