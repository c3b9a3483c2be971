# %% [markdown]
# # How does a text tell its words? Merging where it pays
#
# Minimum entropy, second part: kexue.fm/archives/5476. Two tokens that stand together more often than by chance are
# worth one token of their own, if the text gets cheaper by it. That gain has a closed form. Here: the form is
# checked merge by merge, its short version is compared with frequency and with mutual information, and a text
# without spaces is cut.
#
# Cells run in order, in VS Code or Jupytext, or all at once: `python examples/word_lists_5476.py` (10 s). Runs go
# to the nearest `mlruns/`, else to `./mlruns`; the environment variable MLFLOW_TRACKING_URI names another store.

# %%
import pandas as pd
from PIL import Image

import taolu
from mining.corpus import Policy, units
from mining.entropy import BIT, fstar, merge_gain, pmi
from mining.merges import Criterion, Merger, greedy_merges
from mining.segment import Segmenter, score
from mining.sources import pydoc_words

# %% [markdown]
# ## 1. What a merge saves
#
# A text of tokens with probabilities $p_w$ and lengths $l_w$ costs $\mathcal{L} = H / \bar l$ bits a letter,
# equations (2.6) and (2.7): $H = -\sum_w p_w \log_2 p_w$ a token, $\bar l = \sum_w p_w l_w$ letters long. Make one
# token of every $ab$. Where there were $N$ tokens there are $N(1 - p_{ab})$; count anew, subtract, and the letters
# stay as they are:
#
# $$\Delta\mathcal{L} = -\frac{F_{ab}}{\bar l}, \qquad
# F_{ab} = p_{ab}\ln\frac{p_{ab}}{p_a p_b} - (1 - p_{ab})\ln(1 - p_{ab})
# + \sum_{i = a, b}(p_i - p_{ab})\ln\Bigl(1 - \frac{p_{ab}}{p_i}\Bigr),$$
#
# equations (2.11) and (2.13), $\bar l$ before the merge, and $F$ over $\ln 2$ for bits. Merge a text twenty times,
# and compare the bits that are counted with those that are foretold:

# %%
gold = [" ".join(words) for words in pydoc_words()]
lines = [line.replace(" ", "") for line in gold]
letters = units("\n".join(lines), Policy(latin="each"))
merger = Merger(letters)
spelled = ["".join(map(chr, word)) for word in merger.spelled]
rows = []
for _ in range(20):
    merge = merger.step("fstar")
    if merge is None:
        break
    mean_length = len(letters) / merge.n_tokens
    spelled.append(spelled[merge.left] + spelled[merge.right])
    foretold = -merge.gain / mean_length / BIT
    rows.append((spelled[-1], merge.n_ab, merge.bits_after, merge.bits_after - merge.bits_before, foretold))
merges = pd.DataFrame(rows, columns=["token", "count", "bits a letter", "change", "-F / l"])
print(merges.head(8).round(5).to_string(index=False))
largest_error = float((merges["change"] - merges["-F / l"]).abs().max())
print(f"largest difference over {len(merges)} merges: {largest_error:.0e} bits")

# %% [markdown]
# An identity, to the last digits.
#
# ## 2. The short form, and when it errs
#
# For small $p_{ab}$ the logarithms are $\ln(1 - x) \approx -x$, and
#
# $$F_{ab} \approx F^*_{ab} = p_{ab}\Bigl(\ln\frac{p_{ab}}{p_a p_b} - 1\Bigr) \qquad (2.15).$$
#
# What was left out is positive, so $F^* \le F$: where $F^* > 0$ a merge pays. Read: a pair must come up more often
# than $e$ times chance, PMI above 1 nat, *and* be frequent. PMI below 1 does not forbid it, though:

# %%
p_ab, p_a, p_b = 0.2, 0.3, 0.3
information, short, gain = (float(of(p_ab, p_a, p_b)) for of in (pmi, fstar, merge_gain))
print(f"PMI {information:.3f} nats, F* {short:.3f}, F {gain:.3f}")

# %% [markdown]
# ## 3. Against frequency and against PMI
#
# Byte-pair encoding merges the most frequent pair, others the pair of the greatest PMI. F* weighs both. After 200
# merges:

# %%
criteria: tuple[Criterion, ...] = ("fstar", "count", "pmi")
bits = {"letters": Merger(letters).bits}
for criterion in criteria:
    bits[criterion] = list(greedy_merges(letters, criterion=criterion, n_merges=100))[-1].bits_after
print(pd.Series(bits, name="bits a letter").round(3).to_string())

# %% [markdown]
# The pairs of greatest PMI are rarities; merging them saves nothing. F* is ahead of frequency by a little.
#
# ## 4. Words from a text without spaces
#
# Bits of the text alone cannot say when to stop: in the end each line is one word that occurs once. A word list has
# to be paid for too. `taolu.mine_lexicon` weighs both, counts and finds the best cut again and again, and never
# sees a space; "pydoc" is Python's help in English, without them. `taolu.segment` then cuts what you give it.

# %%
lexicon = taolu.mine_lexicon("pydoc")
print(" ".join(word for word in lexicon.words if len(word) > 1)[:300])
description = lexicon.facts["description_bits"]
print(f"text and list: {description['units']:,.0f} bits in letters, {description['words']:,.0f} in words")
print(taolu.segment("thevalueofthisobject", lexicon))

# %% [markdown]
# The spaces that were taken out tell how good the cut is: precision and recall of the borders between words.

# %%
segmenter = Segmenter(lexicon.scores)
cut = "".join(segmenter.stream(["\n".join(lines)]))  # line by line, as taolu.segment does not keep lines
agreement = score(cut, "\n".join(gold))
print(f"precision {agreement.border_precision:.3f}, recall {agreement.border_recall:.3f}, F {agreement.border_f:.3f}")
longest = max(range(len(gold)), key=lambda at: len(gold[at]))
print(f"the text: {gold[longest][:90]}\nthe cut:  {cut.splitlines()[longest][:90]}")

# %% [markdown]
# Where it errs it is often not foolish: *tobe*, *canbe* are what the text keeps saying.
#
# ## 5. The claims
#
# "Merging a pair whose PMI is below 1 nat raises the bits" fails as in section 2; the sign of $F$ decides (M4c).

# %%
verdicts = taolu.claims("5476-M2", "5476-M4", "5476-M4c", run=True)
Image.open(taolu.files(verdicts.set_index("id")["run_id"]["5476-M2"])["plot.png"])

# %% [markdown]
# **Next.** Your own texts: `taolu mine lexicon FOLDER`, Chinese ones too; then the page Lexicon of
# `taolu dashboard`. The article's own algorithm is `method="article"`, the greedy one `method="greedy"`. Which
# finds borders better: `taolu claims run 5476-M6 5476-M6.1`. Whether the list of least bits on its own text is the
# best: 5476-M5 and its correction.
