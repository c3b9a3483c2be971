# %% [markdown]
# # Which things go together, and do they really? Apriori
#
# Apriori with NumPy: kexue.fm/archives/5525. Of all sets of items, find those that are in many baskets; of these,
# rules "who has A and B has C". Here: why most sets need not be counted, how large the gain is, and how many rules
# come out of baskets in which nothing depends on anything.
#
# Cells run in order, in VS Code or Jupytext, or all at once: `python examples/frequent_itemsets_5525.py` (10 s).
# Runs go to the nearest `mlruns/`, else to `./mlruns`; the environment variable MLFLOW_TRACKING_URI names another
# store.

# %%
import re
import sysconfig
import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

import taolu
from mining.apriori import Method
from mining.significance import wilson

# %% [markdown]
# ## 1. Support never grows with the set
#
# The support of a set $X$ is the share of the baskets that hold all of it. A basket with $Y \supset X$ has $X$ too:
#
# $$X \subset Y \;\Rightarrow\; \mathrm{supp}(Y) \le \mathrm{supp}(X).$$
#
# So a set with an infrequent part is infrequent, and never has to be counted. Go up level by level: candidates of
# $k + 1$ items are joins of two frequent sets that agree in all but their last item. Six shopping baskets,
# threshold 2:

# %%
baskets = [
    {"bread", "milk"},
    {"bread", "butter", "milk"},
    {"beer", "bread", "butter"},
    {"butter", "milk"},
    {"beer", "bread"},
    {"bread", "butter", "milk"},
]


def count(candidates: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
    """In how many baskets each candidate is, of those in at least two."""
    counts = {candidate: sum(basket.issuperset(candidate) for basket in baskets) for candidate in candidates}
    return {candidate: n for candidate, n in counts.items() if n >= 2}


items = sorted(set.union(*baskets))
candidates: list[tuple[str, ...]] = [(item,) for item in items]
frequent: dict[tuple[str, ...], int] = {}
n_counted = 0
while candidates:
    n_counted += len(candidates)
    level = count(candidates)
    print(f"{len(candidates)} candidates of {len(candidates[0])}: {level}")
    frequent |= level
    candidates = [a + b[-1:] for a, b in combinations(sorted(level), 2) if a[:-1] == b[:-1]]
print(f"counted {n_counted} of {2 ** len(items) - 1} sets")

# %% [markdown]
# That is the article's algorithm. `taolu.mine_itemsets` gives the same, whichever way it looks:

# %%
methods: tuple[Method, ...] = ("article", "fast")
for method in methods:
    found = taolu.mine_itemsets(baskets, 2, method=method)
    same = {tuple(sorted(map(str, itemset))): n for itemset, n in found} == frequent
    print(f"{method}: the same sets and counts: {same}")

# %% [markdown]
# ## 2. How large the gain is
#
# Real baskets that every Python has: each file of its standard library is the basket of the packages it imports.

# %%
folder = Path(sysconfig.get_paths()["stdlib"])
files = [
    file for file in sorted(folder.rglob("*.py")) if not {"site-packages", "test", "tests", "idle_test"} & {*file.parts}
]
imports = re.compile(r"^\s*(?:import|from)\s+(\w+)", re.MULTILINE)
library = taolu.mine_itemsets([set(imports.findall(file.read_text(errors="replace"))) for file in files], 20)
n_items = len({item for items, _ in library for item in items if len(items) == 1})
sizes = pd.Series([len(items) for items, _ in library], name="items").value_counts().sort_index()
print(f"{library.n_baskets} baskets, {n_items} frequent items")
print(f"of {2**n_items - 1:.0e} sets of these {len(library)} are frequent, by the number of their items:")
print(sizes.to_string())

# %% [markdown]
# ## 3. Rules
#
# Of a frequent set take a part $A$; the rest is $C$. The rule $A \to C$ has the confidence
# $\mathrm{supp}(A \cup C) / \mathrm{supp}(A)$, and the lift confidence over $\mathrm{supp}(C)$: 1 where $C$ does
# not care about $A$.

# %%
rules = taolu.rules(library, 0.7).sorted("lift")
table = rules.to_frame()[["antecedents", "consequents", "support", "confidence", "lift"]]
for part in ("antecedents", "consequents"):
    table[part] = [" + ".join(sorted(map(str, items))) for items in table[part]]
print(table.head(8).round(3).to_string(index=False))
low, high = wilson(np.array([20]), library.n_baskets)
print(f"a set in 20 of {library.n_baskets} files: support between {low[0]:.4f} and {high[0]:.4f}, by Wilson's interval")

# %% [markdown]
# ## 4. Rules out of nothing
#
# Draw baskets in which every item comes by itself, some of them in most baskets. Thresholds let many rules pass: a
# frequent $C$ makes every rule confident. Fisher's exact test asks how probable so many common baskets are by
# chance; with thousands of questions some answers are improbable by chance, so Holm's correction asks for the more,
# the more there are.

# %%
rng = np.random.default_rng(0)
shares = rng.uniform(0.02, 0.9, 20)
independent = [[f"item {i}" for i in np.flatnonzero(rng.random(20) < shares)] for _ in range(1000)]
chance = taolu.rules(taolu.mine_itemsets(independent, 0.1, max_length=3), 0.75)
holm = chance.measure("holm")
n_chance, n_significant = len(chance), int((holm <= 0.05).sum())
print(f"{n_chance} rules with confidence of at least 0.75; {n_significant} pass Fisher's test with Holm's correction")
real = taolu.rules(library, 0.5)
print(f"of the standard library's {len(real)} rules {int((real.measure('holm') <= 0.05).sum())} pass")

# %% [markdown]
# ## 5. "Efficient"?
#
# The article multiplies columns of a table of truth values. Today's way keeps one bit a basket and carries the
# product along. On 1000 baskets:

# %%
seconds = {}
for method in methods:
    start = time.process_time()
    taolu.mine_itemsets(independent, 0.05, max_length=4, method=method)
    seconds[method] = time.process_time() - start
print(f"article {seconds['article']:.3f} s, fast {seconds['fast']:.3f} s")

# %% [markdown]
# ## 6. The claims

# %%
verdicts = taolu.claims("5525-P3", "5525-P5", "5525-P5c", run=True)
Image.open(taolu.files(verdicts.set_index("id")["run_id"]["5525-P5"])["plot.png"])

# %% [markdown]
# **Next.** Your own baskets: `taolu mine apriori FILE`, in any of the usual formats, then the page Rules of
# `taolu dashboard`. `rules.recommend({"argparse", "re"})` says what goes with a basket. How the time grows with
# baskets and items: `taolu claims run 5525-P2.1 5525-P2.2` (20 s).
