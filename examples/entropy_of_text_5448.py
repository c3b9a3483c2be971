# %% [markdown]
# # What does it cost to learn a text? Entropy as a bill
#
# Minimum entropy, first part: kexue.fm/archives/5448. Whoever learns a text pays for information, and knowing
# patterns lowers the price: words, phrases, grammar. That is the whole principle, and it can be weighed. Here: what
# a letter costs, why small samples flatter themselves, and what units and context save.
#
# Cells run in order, in VS Code or Jupytext, or all at once: `python examples/entropy_of_text_5448.py` (5 s). Runs
# go to the nearest `mlruns/`, else to `./mlruns`; the environment variable MLFLOW_TRACKING_URI names another store.

# %%
import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pandas as pd
from PIL import Image

import taolu
from mining.entropy import BIT, entropy
from mining.sources import pydoc_words

# %% [markdown]
# ## 1. The price of a letter
#
# What is rare is news: a letter of probability $p$ carries $-\log_2 p$ bits, equation (1.1), and on average
# $H = -\sum_c p_c \log_2 p_c$, equation (1.2). The article has 4.03 bits for a letter of English and 9.65 for a
# Chinese character. Our English is that of Python's own help, 300,000 letters that every Python has.

# %%
segments = pydoc_words()
text = "".join(word for segment in segments for word in segment)
letters = Counter(text)
bits_of_a_letter = entropy(list(letters.values())) / BIT
prices = {letter: -math.log2(count / len(text)) for letter, count in letters.most_common()}
print(f"{len(text):,} letters, {bits_of_a_letter:.3f} bits each; equally frequent ones would take {np.log2(26):.3f}")
print({letter: round(price, 1) for letter, price in prices.items()})

# %% [markdown]
# ## 2. A small sample flatters itself
#
# Counts of a sample are taken for probabilities, and fit that sample best: the entropy comes out too small, by
# about $(V - 1) / 2N$ nats for $V$ kinds and $N$ draws (Miller 1955). For 26 letters that is soon nothing. For
# pairs of letters, let alone thousands of Chinese characters, it is not.

# %%
pairs = np.array([first + second for first, second in pairwise(text)])
sizes = [100, 1_000, 10_000, len(pairs)]
rng = np.random.default_rng(0)
rows = []
for size in sizes:
    _, counts = np.unique(rng.choice(pairs, size, replace=False), return_counts=True)
    rows.append((size, entropy(counts) / BIT, entropy(counts, miller_madow=True) / BIT))
samples = pd.DataFrame(rows, columns=["pairs", "bits", "bits, corrected"])
print(samples.round(2).to_string(index=False))

# %% [markdown]
# The correction helps, and does not save a hundred draws of six hundred kinds. Ask of any entropy what it was
# counted on.
#
# ## 3. Units
#
# Take $n$ letters at a time as one unit: $H_n$ bits a unit, $H_n / n$ a letter. A unit costs more, a letter less.
# Units of different length are compared by what the whole text costs, or by the bits a letter; the article insists
# on it. Words are such units, of uneven length: $H / \bar l$.

# %%
units_found = []
for n in (1, 2, 3):
    counts = np.array(list(Counter(text[at : at + n] for at in range(0, len(text) - n + 1, n)).values()))
    units_found.append((f"{n} letters", entropy(counts, miller_madow=True) / BIT, float(n), len(counts)))
words = Counter(word for segment in segments for word in segment)
mean_length = len(text) / words.total()
units_found.append(("words", entropy(list(words.values())) / BIT, mean_length, len(words)))
units = pd.DataFrame(units_found, columns=["unit", "bits a unit", "letters", "kinds"])
units["bits a letter"] = units["bits a unit"] / units["letters"]
print(units.round(2).to_string(index=False))

# %% [markdown]
# Whoever knows the words pays less than half. Knowing them is not free either: some 3,000 words have to be learnt
# once. The notebook `word_lists_5476.py` counts that in.
#
# ## 4. Context: every estimate is an upper bound
#
# Tell what the letter before was, and the next costs $H(c_2 | c_1) = H(c_1 c_2) - H(c_1)$; two before, less still.
# The true entropy of the source lies below all of them. On the counted text it falls by arithmetic alone; the test
# is unseen text, here the last fifth, with the frequencies of the first four fifths, and one count added to each
# kind.

# %%
border = len(text) * 4 // 5
seen, unseen = text[:border], text[border:]


def cross_entropy(n: int) -> float:
    """Bits a letter of the unseen part, each predicted from the n letters before it."""
    grams = Counter(seen[at : at + n + 1] for at in range(len(seen) - n))
    contexts = Counter(seen[at : at + n] for at in range(len(seen) - n))
    ends = range(n, len(unseen))
    shares = [(grams[unseen[at - n : at + 1]] + 1) / (contexts[unseen[at - n : at]] + 26) for at in ends]
    return float(-np.log2(shares).mean())


context = pd.Series({n: cross_entropy(n) for n in range(5)}, name="bits a letter of unseen text")
context.index.name = "letters before"
print(context.round(3).to_string())

# %% [markdown]
# Each letter of context lowers the bound, until there are more contexts than were seen: at four, adding one to
# every kind is a poor guess. A better one goes on falling: claim 5448-E4 shares the counts of shorter contexts
# (Witten & Bell 1991).
#
# ## 5. Two languages
#
# A text and its translation say the same. Do they cost the same? The claims of this package are such a pair: each
# has its statement in English and in Chinese. Every character counts here, at the price of a small sample.

# %%
claims = taolu.claims()
bills = {}
for language, column in (("English", "statement"), ("Chinese", "statement_zh")):
    characters = Counter(char for statement in claims[column] for char in statement if char.isalpha())
    bits = entropy(list(characters.values()), miller_madow=True) / BIT
    bills[language] = (characters.total(), len(characters), bits, characters.total() * bits)
bilingual = pd.DataFrame(bills, index=["characters", "kinds", "bits each", "bits in all"]).T
print(bilingual.round(1))
ratio = bilingual["bits in all"]["English"] / bilingual["bits in all"]["Chinese"]
print(f"English / Chinese: {ratio:.2f}")

# %% [markdown]
# A character of Chinese carries more, and there are fewer of them. That the bills are equal is not what we see:
# letter by letter, English repeats itself more, which a price by single letters does not notice.
#
# ## 6. The claims

# %%
verdicts = taolu.claims("5448-E1", "5448-E3", "5448-E3.1", run=True)
Image.open(taolu.files(verdicts.set_index("id")["run_id"]["5448-E1"])["plot.png"])

# %% [markdown]
# **Next.** A Chinese character of 9.65 bits "whatever the text" and the equality of two languages, on a real
# parallel text that is downloaded once: `taolu claims run 5448-E1.1 5448-E2 5448-E2c`. Words found without being
# told of any, from text without spaces, as in 1993: `taolu claims run 5448-E5`, and the notebook
# `word_lists_5476.py`.
