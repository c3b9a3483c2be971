"""The questions the articles open with, and their answers put together from the verdicts as they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]
WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "none": "No claim yet.",
        "not run": "Not run yet; taolu claims run {article} answers it.",
        "join": "; ",
        "end": " ({count}).",
        "stop": ".",
        "holds": "{n} of {total} statements hold",
        "fails": "{n} found false",
        "undetermined": "{n} undetermined",
        "missing": "{n} not run",
        "between": ", ",
        "open": "whether {clause} is undetermined",
    },
    "zh": {
        "none": "尚无命题。",
        "not run": "尚未运行；taolu claims run {article} 给出答案。",
        "join": "；",
        "end": "（{count}）。",
        "stop": "。",
        "holds": "{total} 条命题中 {n} 条成立",
        "fails": "{n} 条不成立",
        "undetermined": "{n} 条未定",
        "missing": "{n} 条未运行",
        "between": "，",
        "open": "“{clause}”尚不能定",
    },
}


@dataclass(frozen=True)
class Clause:
    """What one claim contributes to an answer.

    Args:
        claim: its id.
        holds: clause where it holds, in English.
        fails: clause where it fails.
        holds_zh: the first in Chinese.
        fails_zh: the second in Chinese.
    """

    claim: str
    holds: str
    fails: str
    holds_zh: str
    fails_zh: str


@dataclass(frozen=True)
class Question:
    """A question of an article.

    Args:
        article: number at kexue.fm/archives.
        text: in English.
        text_zh: in Chinese.
        clauses: of the claims that decide it; the others are only counted.
    """

    article: int
    text: str
    text_zh: str
    clauses: tuple[Clause, ...] = ()


QUESTIONS: dict[str, Question] = {
    "5655-why": Question(
        5655,
        "Why does SGD work?",
        "随机梯度下降为什么有效？",
        (
            Clause(
                "5655-S4",
                "its steps follow the gradient flow to first order",
                "its steps do not follow the gradient flow",
                "每步以一阶精度跟随梯度流",
                "每步并不跟随梯度流",
            ),
            Clause(
                "5655-S2",
                "its noise brings it to rest at exp(-L / sigma^2), whatever the learning rate",
                "its noise does not bring it to rest at exp(-L / sigma^2), which the learning rate would not enter",
                "噪声使其静止于 exp(-L/σ²)，与学习率无关",
                "噪声并不使其静止于 exp(-L/σ²)（那将与学习率无关）",
            ),
            Clause(
                "5655-S2c",
                "runs of equal lr / B rest at equal losses, at the temperature T = lr s^2 / (2 B)",
                "nor do runs of equal lr / B rest at equal losses",
                "lr/B 相同则静止时损失相同，温度为 T = lr·s²/(2B)",
                "lr/B 相同时静止的损失也不相同",
            ),
            Clause(
                "5655-S7.1c",
                "exp(-L / T) is the share of each minimum",
                "the share of each minimum is not exp(-L / T) either",
                "各极小点的占比服从 exp(-L/T)",
                "各极小点的占比也不服从 exp(-L/T)",
            ),
        ),
    ),
    "5655-batch": Question(
        5655,
        "Is a larger batch better?",
        "批越大越好吗？",
        (
            Clause(
                "5655-S1",
                "it has less noise, the variance falls as 1 / B",
                "the variance of its noise does not fall as 1 / B",
                "批越大噪声越小，方差按 1/B 下降",
                "噪声方差并不按 1/B 下降",
            ),
            Clause(
                "5655-S7c",
                "but it leaves a poor minimum later, after a time ~ exp(barrier / T)",
                "the time to leave a poor minimum does not follow exp(barrier / T)",
                "但离开差的极小点更慢，时间按 exp(势垒/T) 增长",
                "离开差的极小点的时间并不按 exp(势垒/T) 增长",
            ),
            Clause(
                "5655-S6",
                "small batches first and larger ones later beat a constant size",
                "small batches first and larger ones later do not beat a constant size",
                "先小批、后大批优于固定的批大小",
                "先小批、后大批并不优于固定的批大小",
            ),
            Clause(
                "5655-S9.1c",
                "steps are traded for samples around a critical size",
                "steps and samples do not trade around a critical size",
                "步数与样本数围绕一个临界批大小相互折换",
                "步数与样本数的折换并不符合临界批大小的规律",
            ),
        ),
    ),
    "5655-rate": Question(
        5655,
        "How should the learning rate be set?",
        "学习率该怎么设？",
        (
            Clause(
                "5655-S3.2c",
                "below 2 / lambda_max, where descent is stable",
                "the limit of stability is not 2 / lambda_max",
                "应低于稳定极限 2/λ_max",
                "稳定极限并非 2/λ_max",
            ),
            Clause(
                "5655-S2.3c",
                "the variance that noise leaves grows in proportion to it",
                "the variance that noise leaves is not in proportion to it",
                "噪声留下的方差与学习率成正比",
                "噪声留下的方差与学习率不成正比",
            ),
            Clause(
                "5655-S9c",
                "the best one grows with the batch as 1 / (1 + B_noise / B)",
                "the best one does not follow 1 / (1 + B_noise / B)",
                "最优学习率随批大小按 1/(1 + B_noise/B) 增长",
                "最优学习率不服从 1/(1 + B_noise/B)",
            ),
            Clause(
                "5655-S6.1",
                "large at first and falling later beats the reverse",
                "large at first and falling later does not beat the reverse",
                "先大后小优于相反的次序",
                "先大后小并不优于相反的次序",
            ),
        ),
    ),
    "5655-momentum": Question(
        5655,
        "How does momentum accelerate?",
        "动量为什么能加速？",
        (
            Clause(
                "5655-S4.6",
                "at the rate alpha it advances by sqrt(alpha) of physical time a step",
                "at the rate alpha it does not advance by sqrt(alpha) of physical time a step",
                "学习率为 α 时每步前进的物理时间为 √α",
                "学习率为 α 时每步前进的物理时间并非 √α",
            ),
            Clause(
                "5655-S3.8c",
                "tuned, its steps grow as sqrt(kappa) with the condition number",
                "tuned, its steps do not grow as sqrt(kappa) with the condition number",
                "调优后步数随条件数按 √κ 增长",
                "调优后步数并不按 √κ 增长",
            ),
            Clause(
                "5655-S7.3",
                "its inertia crosses a poor minimum without noise",
                "its inertia does not cross a poor minimum",
                "凭惯性无需噪声即可越过差的极小点",
                "惯性并不能越过差的极小点",
            ),
            Clause(
                "5655-S4.1",
                "it is accurate to second order",
                "started with v = 0 it is not accurate to second order",
                "具有二阶精度",
                "以 v = 0 起步时并无二阶精度",
            ),
        ),
    ),
    "5655-nesterov": Question(
        5655,
        "Why is Nesterov's momentum better?",
        "Nesterov 动量为什么更好？",
        (
            Clause(
                "5655-S3",
                "it is stable for larger steps than momentum",
                "it is not stable for larger steps than momentum",
                "稳定步长比动量更大",
                "稳定步长并不比动量更大",
            ),
            Clause(
                "5655-S4.2",
                "it is accurate to second order",
                "it is not accurate to second order",
                "具有二阶精度",
                "并无二阶精度",
            ),
            Clause(
                "5655-S3.6c",
                "what it gains is damping by curvature",
                "its damping does not follow the curvature",
                "它的好处是随曲率增强的阻尼",
                "其阻尼并不随曲率增强",
            ),
        ),
    ),
    "6234-adaptive": Question(
        6234,
        "Why do adaptive learning rates work?",
        "自适应学习率为什么有效？",
        (
            Clause(
                "6234-A1.1",
                "rate times gradient tells the error of a step, so keeping it steady keeps the error in hand",
                "rate times gradient does not tell the error of a step",
                "学习率乘梯度反映了一步的误差，稳住它就控制了误差",
                "学习率乘梯度并不反映一步的误差",
            ),
            Clause(
                "6234-A4.1",
                "a rate for each number beats one for all",
                "a rate for each number does not beat one for all in general",
                "逐个参数的学习率优于统一的学习率",
                "逐个参数的学习率一般并不优于统一的学习率",
            ),
            Clause(
                "6234-A4.1c",
                "it does where the axes of the loss are the parameters' own",
                "not even where the axes of the loss are the parameters' own",
                "当损失的主轴与参数轴对齐时确实如此",
                "即使损失的主轴与参数轴对齐也不如此",
            ),
            Clause(
                "6234-A5.2",
                "the moving average corrects the bias of a squared gradient",
                "the moving average smooths the squared gradient but leaves its bias",
                "滑动平均修正了梯度平方的偏差",
                "滑动平均只减小梯度平方的方差，不修正其偏差",
            ),
            Clause(
                "6234-A7.1",
                "such methods are ahead at first",
                "such methods are not ahead at first",
                "这类方法起初更快",
                "这类方法起初并不更快",
            ),
            Clause(
                "6234-A7.2",
                "and behind at last",
                "and not behind at last",
                "最后却更差",
                "最后也不更差",
            ),
        ),
    ),
    "5383-why": Question(
        5383,
        "Why does a VAE work?",
        "VAE 为什么能成功？",
        (
            Clause(
                "5383-V1",
                "its posterior is narrow, so that a draw stays close to its image",
                "its posterior is not narrow",
                "后验很窄，采样不会远离其图像",
                "后验并不窄",
            ),
            Clause(
                "5383-V1.2",
                "one draw suffices, as the batch makes most of the gradient's noise",
                "one draw does not add little to the gradient's noise: most of the encoder's comes from it",
                "采一个 z 就够了，梯度噪声大部分来自小批量",
                "采样的噪声并不小：编码器的梯度噪声大部分来自它",
            ),
            Clause(
                "5383-V1.2c",
                "the decoder's noise is mostly the batch's",
                "nor is the decoder's noise mostly the batch's",
                "解码器的梯度噪声大部分来自小批量",
                "解码器的梯度噪声也并非大部分来自小批量",
            ),
            Clause(
                "5383-V5",
                "more draws for an image are not worth their compute",
                "more draws for an image are worth their compute",
                "多采几个 z 得不偿失",
                "多采几个 z 物有所值",
            ),
            Clause(
                "5383-V4",
                "draws of the prior fail for large batches, whose images fight for them",
                "draws of the prior do not suffer from large batches",
                "先验采样败于批太大、样本争夺 z",
                "先验采样并不因批大而变差",
            ),
            Clause(
                "5383-V4c",
                "what they lack is number",
                "nor does their number help",
                "先验采样缺的是采样数",
                "增加先验采样数也无济于事",
            ),
            Clause(
                "5383-V6.2",
                "a tighter bound makes a worse encoder",
                "a tighter bound does not make a worse encoder",
                "更紧的界使编码器变差",
                "更紧的界并不使编码器变差",
            ),
        ),
    ),
    "5448-cost": Question(
        5448,
        "Is entropy the cost of learning?",
        "熵就是学习的成本吗？",
        (
            Clause(
                "5448-E3",
                "who knows the words pays less a letter",
                "knowing the words saves nothing",
                "知道词之后每个字母的成本更低",
                "知道词并不降低成本",
            ),
            Clause(
                "5448-E4",
                "what is measured is only an upper bound, which falls with every letter of context",
                "more context does not lower it",
                "测得的只是上界，多看一个字母就更低",
                "多看上文并不使它降低",
            ),
            Clause(
                "5448-E5",
                "minimum entropy alone finds most borders of words in English without spaces",
                "minimum entropy alone does not find the borders of words",
                "仅凭最小熵就能在无空格英文中找到大部分词边界",
                "仅凭最小熵找不到词边界",
            ),
            Clause(
                "5448-E2",
                "letter by letter a text and its translation carry equal information",
                "letter by letter a text and its translation differ in information",
                "逐字统计时原文与译文信息量相等",
                "逐字统计时原文与译文信息量不等",
            ),
            Clause(
                "5448-E2c",
                "compressed they are nearly equal",
                "compressed they differ too",
                "压缩之后两者相近",
                "压缩之后仍不相等",
            ),
        ),
    ),
    "5476-words": Question(
        5476,
        "Why are there words?",
        "为什么要有词？",
        (
            Clause(
                "5476-M1",
                "merging a and b saves exactly F_ab / l bits a character",
                "the law of the merge is not exact",
                "合并两字恰好节省 F_ab / l",
                "合并的公式并不精确",
            ),
            Clause(
                "5476-M3",
                "by F* words come sooner than by frequency",
                "frequency finds words as soon as F*",
                "按 F* 比按频率更快得到词",
                "按频率不比按 F* 慢",
            ),
            Clause(
                "5476-M3.2",
                "on unseen text too",
                "though not on unseen text",
                "在未见文本上亦然",
                "在未见文本上则不然",
            ),
            Clause(
                "5476-M4",
                "the threshold of 1 nat is strict",
                "below 1 nat of mutual information a merge may still pay",
                "互信息阈值 1 是严格的",
                "互信息低于 1 时合并仍可能划算",
            ),
            Clause(
                "5476-M5",
                "the least entropy on the text itself marks the best list of words",
                "the least entropy on the text itself is that of whole phrases, no list of words",
                "语料自身的最小熵对应最好的词表",
                "语料自身的最小熵来自整句，而非词表",
            ),
            Clause(
                "5476-M5c",
                "judged on other text, words win",
                "nor do words win on other text",
                "换一段文本评判，词胜出",
                "换一段文本评判，词也未胜出",
            ),
            Clause(
                "5476-M6",
                "statistics of pairs find borders of words",
                "statistics of pairs find no borders of words",
                "两字统计能找到词的边界",
                "两字统计找不到词的边界",
            ),
            Clause(
                "5476-M7",
                "and longer n-grams find no more",
                "but longer n-grams find more",
                "更长的 n 元统计并不找到更多",
                "但更长的 n 元统计找到更多",
            ),
            Clause(
                "5476-M8",
                "at least 30 % of the candidates are redundant",
                "fewer than 30 % of the candidates are redundant",
                "至少 30% 的候选词是冗余的",
                "冗余的候选词不到 30%",
            ),
        ),
    ),
    "5525-efficient": Question(
        5525,
        "Is Apriori in NumPy efficient?",
        "用 NumPy 实现的 Apriori 高效吗？",
        (
            Clause(
                "5525-P1",
                "the level-wise algorithm is exact",
                "the level-wise algorithm is not exact",
                "逐层算法精确无误",
                "逐层算法并不精确",
            ),
            Clause(
                "5525-P2.1",
                "its time grows as the number of baskets",
                "its time does not grow as the number of baskets",
                "时间与篮数成正比",
                "时间与篮数不成正比",
            ),
            Clause(
                "5525-P2.3",
                "and NumPy knows no quicker way",
                "but NumPy has quicker ways",
                "且 NumPy 没有更快的做法",
                "但 NumPy 有更快的做法",
            ),
            Clause(
                "5525-P2.3c",
                "bitmaps take less than a tenth of its time",
                "though bitmaps are not ten times as quick",
                "位图只需不到十分之一的时间",
                "只是位图也没有快到十倍",
            ),
            Clause(
                "5525-P5",
                "what passes the thresholds is no accident",
                "what passes the thresholds may be an accident",
                "超过阈值者并非偶然",
                "超过阈值者可能出于偶然",
            ),
            Clause(
                "5525-P5c",
                "what passes Fisher's test with Holm's correction is none",
                "even what passes Fisher's test may be one",
                "再过 Fisher 检验与 Holm 校正者则不是",
                "即使通过 Fisher 检验也可能是偶然",
            ),
        ),
    ),
    "6051-robust": Question(
        6051,
        "Which models are robust?",
        "怎样的模型才稳健？",
        (
            Clause(
                "6051-L2.1",
                "a smaller product of spectral norms goes with a smaller response to noise",
                "the response to noise does not follow the product of spectral norms",
                "谱范数之积越小，对噪声的响应越小",
                "对噪声的响应与谱范数之积无关",
            ),
            Clause(
                "6051-L2.4",
                "and with better generalisation",
                "but not with better generalisation in general",
                "泛化也越好",
                "泛化却未必越好",
            ),
            Clause(
                "6051-L2.5",
                "a gradient penalty generalises better as a regulariser too",
                "a gradient penalty does not help supervised models",
                "梯度惩罚作为监督模型的正则项同样改善泛化",
                "梯度惩罚对监督模型并无帮助",
            ),
            Clause(
                "6051-L3",
                "at equal accuracy the penalty on spectral norms resists attacks better than weight decay",
                "the penalty on spectral norms resists attacks no better than weight decay",
                "准确率相当时，谱范数正则比 L2 正则更能抵抗攻击",
                "谱范数正则并不比 L2 正则更能抵抗攻击",
            ),
            Clause(
                "6051-L4.1",
                "spectral normalisation as in the article's code bounds a network by its target",
                "spectral normalisation as in the article's code lets the bound exceed its target",
                "文中代码的谱归一化使上界不超过目标",
                "文中代码的谱归一化使上界超出目标",
            ),
            Clause(
                "6051-L4.1c",
                "with vectors kept between steps the bound holds",
                "not even with vectors kept between steps does it hold",
                "保留上一步的向量即可守住",
                "即使保留上一步的向量也守不住",
            ),
            Clause(
                "6051-L9",
                "spectral normalisation makes it stable to changes of the weights",
                "spectral normalisation does not make it stable to changes of the weights",
                "谱归一化使模型对参数扰动稳定",
                "谱归一化并不使模型对参数扰动稳定",
            ),
            Clause(
                "6051-L10",
                "and a single pixel fools it less often",
                "nor does a single pixel fool it less often",
                "单像素攻击也更难得逞",
                "单像素攻击并未更难得逞",
            ),
        ),
    ),
    "6051-gan": Question(
        6051,
        "What does a Lipschitz constraint give a GAN?",
        "Lipschitz 约束给 GAN 带来什么？",
        (
            Clause(
                "6051-L5.1",
                "a gradient penalty costs a critic 1.5 times as much",
                "a gradient penalty does not cost a critic 1.5 times as much",
                "梯度惩罚使判别器的开销增至 1.5 倍以上",
                "梯度惩罚的开销不到 1.5 倍",
            ),
            Clause(
                "6051-L5.4",
                "at equal CPU time spectral normalisation comes nearer to the data",
                "at equal CPU time spectral normalisation comes no nearer to the data",
                "CPU 时间相同时，谱归一化更接近数据分布",
                "CPU 时间相同时，谱归一化并不更接近数据分布",
            ),
            Clause(
                "6051-L7",
                "it must be a reparametrisation and not a projection",
                "a projection does as well as a reparametrisation",
                "谱归一化应以重参数化实现，而非投影",
                "以投影实现的谱归一化并不更差",
            ),
            Clause(
                "6051-L8.4",
                "a penalty centred at 0 makes the players come to rest",
                "a penalty centred at 0 does not make the players come to rest as fast as theory has it",
                "零中心惩罚使博弈双方收敛",
                "零中心惩罚并未按理论速率收敛",
            ),
        ),
    ),
    "7292-blocks": Question(
        7292,
        "Does it matter where a block has its norms?",
        "归一化放在块中何处，有关系吗？",
        (
            Clause(
                "7292-G1.1",
                "two blocks in GPT2_ML's order learn as GPT-2's do",
                "two blocks in GPT2_ML's order do not learn as GPT-2's do",
                "两层时 GPT2_ML 的结构与 GPT-2 学得一样好",
                "两层时 GPT2_ML 的结构与 GPT-2 学得并不一样好",
            ),
            Clause(
                "7292-G1.3",
                "twelve need a warm-up",
                "twelve do without a warm-up",
                "十二层时需要预热",
                "十二层时也不需要预热",
            ),
        ),
    ),
    "7292-generating": Question(
        7292,
        "What does a model draw its text from, and at what cost?",
        "模型从什么分布中采样，代价如何？",
        (
            Clause(
                "7292-G3.1",
                "draws follow the truncated law",
                "draws do not follow the truncated law",
                "采样服从截断后的分布",
                "采样并不服从截断后的分布",
            ),
            Clause(
                "7292-G5.1",
                "a cache changes no logit",
                "a cache changes the logits",
                "缓存不改变输出",
                "缓存改变了输出",
            ),
            Clause(
                "7292-G5.2",
                "and makes the work grow as the text, not as its square",
                "and does not make the work grow as the text",
                "并使计算量随文本长度线性增长，而非平方增长",
                "但并未使计算量随文本长度线性增长",
            ),
        ),
    ),
    "7292-pretraining": Question(
        7292,
        "Does pre-training help?",
        "预训练有用吗？",
        (
            Clause(
                "7292-G7.1",
                "a pre-trained model learns another kind of text faster",
                "a pre-trained model learns another kind of text no faster",
                "预训练的模型更快学会另一类文本",
                "预训练的模型并不更快学会另一类文本",
            ),
            Clause(
                "7292-G7.2",
                "it needs fewer labels",
                "it does not do better with few labels",
                "所需标签更少",
                "标签少时并不更好",
            ),
        ),
    ),
    "7292-finetuning": Question(
        7292,
        "Can such a model be fine-tuned?",
        "这样的大模型还能微调吗？",
        (
            Clause(
                "7292-G2.1",
                "Adam's state alone fills a card of 22 GB",
                "Adam's state does not fill a card of 22 GB",
                "Adam 的状态就占满 22 GB 显存",
                "Adam 的状态占不满 22 GB 显存",
            ),
            Clause(
                "7292-G2.2",
                "only AdaFactor fits",
                "AdaFactor is not the only optimizer that fits",
                "只有 AdaFactor 放得下",
                "并非只有 AdaFactor 放得下",
            ),
            Clause(
                "7292-G2.2c",
                "its own state is next to nothing",
                "its own state is not negligible",
                "其状态几乎不占显存",
                "其状态并非可忽略",
            ),
            Clause(
                "7292-G6.1",
                "and at the advised rate it learns as Adam does",
                "but at the advised rate it learns less than Adam",
                "按建议的学习率，它与 Adam 学得一样好",
                "但按建议的学习率，它学得不如 Adam",
            ),
            Clause(
                "7292-G6.1c",
                "at its own best rate it learns as much",
                "even at its own best rate it learns less",
                "取各自最佳学习率时同样好",
                "即使取最佳学习率也不如 Adam",
            ),
        ),
    ),
}


def answer(question: Question, claims: Mapping[str, str], language: Language) -> str:
    """One sentence: a clause for each claim that decides the question, then the count of all that belong to it.

    Args:
        question: to be answered.
        claims: id of every claim that names the question -> its verdict, "" where it has not been run.
        language: of the sentence.
    """
    words = WORDS[language]
    if not claims:
        return words["none"]
    if not any(claims.values()):
        return words["not run"].format(article=question.article)
    clauses = [text for clause in question.clauses if (text := _clause(clause, claims.get(clause.claim, ""), language))]
    count = _count(list(claims.values()), words)
    sentence = words["join"].join(clauses) + words["end"].format(count=count) if clauses else count + words["stop"]
    return sentence[0].upper() + sentence[1:]


def _clause(clause: Clause, verdict: str, language: Language) -> str:
    holds, fails = (clause.holds, clause.fails) if language == "en" else (clause.holds_zh, clause.fails_zh)
    undetermined = WORDS[language]["open"].format(clause=holds)
    return {"holds": holds, "fails": fails, "undetermined": undetermined}.get(verdict, "")


def _count(verdicts: list[str], words: Mapping[str, str]) -> str:
    parts = [words["holds"].format(n=verdicts.count("holds"), total=len(verdicts))]
    for name, verdict in (("fails", "fails"), ("undetermined", "undetermined"), ("missing", "")):
        if n := verdicts.count(verdict):
            parts.append(words[name].format(n=n))
    return words["between"].join(parts)
