"""Every text the pages show, in English and Chinese, and the ways to write a status, a time and a user's own text."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import Literal

Say = Callable[..., str]

LANGUAGES = {"en": "English", "zh": "中文"}

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "store": "Store",
        "runs": "Runs",
        "run": "Run",
        "runs_shown": "{shown} of {total} runs",
        "runs_total": "Runs: {total}",
        "count_running": "{n} running",
        "count_failed": "{n} failed",
        "newest_shown": "The newest {n} are listed; filter to see others.",
        "open_hint": "Click a row to open its run.",
        "empty_title": "No run yet",
        "empty_text": "This store is empty. Either command fills it; the page shows the run at the next reload.",
        "empty_one": "Train a small model",
        "empty_demo": "Record the whole demonstration",
        "no_match": "No run fits these filters.",
        "experiment": "Experiment",
        "status": "Status",
        "kind": "Kind",
        "search": "Search",
        "search_hint": "name, id, parameter or note",
        "any": "any",
        "name": "Name",
        "started": "Started",
        "duration": "Duration",
        "note": "Note",
        "FINISHED": "finished",
        "FAILED": "failed",
        "KILLED": "killed",
        "RUNNING": "running",
        "SCHEDULED": "scheduled",
        "deleted": "deleted",
        "curves": "Curves",
        "config": "Config",
        "images": "Images",
        "paths": "Paths",
        "console": "Console",
        "files": "Files",
        "fork_of": "Fork of {run}",
        "evaluation_of": "Evaluation of {run}",
        "forks": "Forks: {runs}",
        "evaluations": "Evaluations: {runs}",
        "and_more": "{n} more",
        "failure": "Why it failed",
        "no_traceback": "The run failed and left no traceback.txt; the console may say why.",
        "no_curves": "This run has logged no metric.",
        "charts": "Charts",
        "charts_hint": "{shown} of {total} quantities are drawn; choose up to {most}.",
        "values": "Values",
        "metric": "Metric",
        "last": "Last",
        "smallest": "Smallest",
        "largest": "Largest",
        "points": "Points",
        "not_finite": "Not finite",
        "step": "step",
        "no_config": "This run has stored no config.yaml.",
        "parameters": "Parameters",
        "parameter": "Parameter",
        "value": "Value",
        "no_parameters": "This run has logged no parameter.",
        "tags": "Tags",
        "tag": "Tag",
        "no_images": "This run has stored no image or text (media/<name>/<step>.png or .json).",
        "image_step": "Step of {name}",
        "image_refused": "{name} is not shown: it is no PNG image, or larger than {most} MB.",
        "evidence": "Evidence",
        "no_evidence": "evidence.json is broken or too large.",
        "holds": "holds",
        "fails": "fails",
        "undetermined": "undetermined",
        "no_paths": "paths.npz is broken, lacks arrays, or is larger than {most} MB.",
        "path_title": "The optimizer and its differential equation",
        "map_title": "The minimum reached over (lr, β)",
        "map_hint": "Blue cells end in the basin of the global minimum, red ones in another, grey ones diverged.",
        "optimizer": "optimizer",
        "equation": "equation",
        "minimum": "minimum",
        "time": "time",
        "no_console": "This run has stored no console.log.",
        "console_tail": "The last {n} lines.",
        "no_files": "This run has stored no file.",
        "files_total": "{n} files, {size}",
        "files_shown": "The first {n} are listed.",
        "file": "File",
        "size": "Size",
        "in_folder": "They lie in",
        "seconds": "{n} s",
        "minutes": "{n} min",
        "hours": "{n} h",
        "days": "{n} d",
        "ago": "{span} ago",
        "just_now": "just now",
        "so_far": "{span} so far",
    },
    "zh": {
        "store": "存储",
        "runs": "运行列表",
        "run": "运行详情",
        "runs_shown": "共 {total} 次运行，显示 {shown} 次",
        "runs_total": "共 {total} 次运行",
        "count_running": "{n} 次进行中",
        "count_failed": "{n} 次失败",
        "newest_shown": "只列出最新的 {n} 次；可用筛选查看其余。",
        "open_hint": "点击一行打开该次运行。",
        "empty_title": "还没有运行",
        "empty_text": "存储为空。以下任一命令都会写入运行，刷新页面即可看到。",
        "empty_one": "训练一个小模型",
        "empty_demo": "录制完整演示",
        "no_match": "没有符合筛选条件的运行。",
        "experiment": "实验",
        "status": "状态",
        "kind": "类型",
        "search": "搜索",
        "search_hint": "名称、编号、参数或备注",
        "any": "不限",
        "name": "名称",
        "started": "开始",
        "duration": "时长",
        "note": "备注",
        "FINISHED": "完成",
        "FAILED": "失败",
        "KILLED": "被终止",
        "RUNNING": "进行中",
        "SCHEDULED": "排队中",
        "deleted": "已删除",
        "curves": "曲线",
        "config": "配置",
        "images": "图像",
        "paths": "轨迹",
        "console": "控制台",
        "files": "文件",
        "fork_of": "分叉自 {run}",
        "evaluation_of": "评估的是 {run}",
        "forks": "分叉：{runs}",
        "evaluations": "评估：{runs}",
        "and_more": "另有 {n} 次",
        "failure": "失败原因",
        "no_traceback": "运行失败且没有留下 traceback.txt；控制台中或有原因。",
        "no_curves": "该运行没有记录指标。",
        "charts": "图表",
        "charts_hint": "共 {total} 个量，画出 {shown} 个；最多可选 {most} 个。",
        "values": "数值",
        "metric": "指标",
        "last": "最后",
        "smallest": "最小",
        "largest": "最大",
        "points": "点数",
        "not_finite": "非有限",
        "step": "步",
        "no_config": "该运行没有保存 config.yaml。",
        "parameters": "参数",
        "parameter": "参数",
        "value": "值",
        "no_parameters": "该运行没有记录参数。",
        "tags": "标签",
        "tag": "标签",
        "no_images": "该运行没有保存图像或文本（media/<名称>/<步>.png 或 .json）。",
        "image_step": "{name} 的步数",
        "image_refused": "未显示 {name}：不是 PNG 图像，或大于 {most} MB。",
        "evidence": "证据",
        "no_evidence": "evidence.json 已损坏或过大。",
        "holds": "成立",
        "fails": "不成立",
        "undetermined": "未定",
        "no_paths": "paths.npz 已损坏、缺少数组，或大于 {most} MB。",
        "path_title": "优化器与它的微分方程",
        "map_title": "不同 (lr, β) 所到达的极小点",
        "map_hint": "蓝色格子终止于全局极小点的吸引域，红色终止于其他极小点，灰色发散。",
        "optimizer": "优化器",
        "equation": "微分方程",
        "minimum": "极小点",
        "time": "时间",
        "no_console": "该运行没有保存 console.log。",
        "console_tail": "最后 {n} 行。",
        "no_files": "该运行没有保存文件。",
        "files_total": "{n} 个文件，{size}",
        "files_shown": "只列出前 {n} 个。",
        "file": "文件",
        "size": "大小",
        "in_folder": "所在目录",
        "seconds": "{n} 秒",
        "minutes": "{n} 分钟",
        "hours": "{n} 小时",
        "days": "{n} 天",
        "ago": "{span}前",
        "just_now": "刚刚",
        "so_far": "已进行 {span}",
    },
}

Color = Literal["red", "orange", "blue", "green", "gray"]

STATUS: dict[
    str, tuple[str, str, Color]
] = {  # MLflow's word: (icon, shape in a table, colour); shape and word carry what a colour-blind eye cannot see
    "FINISHED": (":material/check_circle:", "✓", "green"),
    "FAILED": (":material/error:", "✗", "red"),
    "KILLED": (":material/stop_circle:", "■", "orange"),
    "RUNNING": (":material/play_circle:", "▶", "blue"),
    "SCHEDULED": (":material/schedule:", "…", "gray"),
}
VERDICTS: dict[str, Color] = {"holds": "green", "fails": "red", "undetermined": "orange"}


def speaker(language: str) -> Say:
    """The function that gives a text of `WORDS` in this language, its {gaps} filled from keywords.

    >>> speaker("en")("ago", span="2 min")
    '2 min ago'
    """

    def say(key: str, **gaps: object) -> str:
        return WORDS[language][key].format(**gaps)

    return say


def plain(text: str, limit: int = 200) -> str:
    r"""A user's text for a place that renders Markdown: on one line, cut at `limit`, with nothing left to render.

    >>> plain("![x](http://a/b)")
    '\\!\\[x\\]\\(http\\:\\/\\/a\\/b\\)'
    """
    flat = re.sub(r"[\s\x00-\x1f]+", " ", text).strip()
    flat = flat if len(flat) <= limit else flat[: limit - 1] + "…"
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", flat)


def status_text(say: Say, status: str) -> str:
    """A run's status with its shape, for a table cell."""
    _, shape, _ = STATUS.get(status, STATUS["SCHEDULED"])
    return f"{shape} {say(status)}" if status in STATUS else status


def span(say: Say, seconds: float) -> str:
    """A length of time in one or two units.

    >>> span(speaker("en"), 83.4), span(speaker("en"), 4.26), span(speaker("en"), 7260)
    ('1 min 23 s', '4.3 s', '2 h 1 min')
    """
    if seconds < 10:
        return say("seconds", n=f"{seconds:.1f}")
    whole = round(seconds)
    for name, smaller, length, part in (
        ("days", "hours", 86_400, 3_600),
        ("hours", "minutes", 3_600, 60),
        ("minutes", "seconds", 60, 1),
    ):
        if whole >= length:
            rest = whole % length // part
            return say(name, n=whole // length) + (f" {say(smaller, n=rest)}" if rest else "")
    return say("seconds", n=whole)


def ago(say: Say, moment: datetime, now: datetime) -> str:
    """How long before `now` the moment was, in its largest unit."""
    seconds = (now - moment).total_seconds()
    for name, length in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= length:
            return say("ago", span=say(name, n=int(seconds // length)))
    return say("just_now")


def size_text(n_bytes: int) -> str:
    """A file size in the largest fitting unit.

    >>> size_text(532), size_text(1_234_567)
    ('532 B', '1.2 MB')
    """
    size = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
