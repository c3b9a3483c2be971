"""Tables of other libraries, which are imported when asked for: results as pandas frames."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame

    from mining.apriori import Itemsets
    from mining.rules import Rules


def itemsets_frame(found: Itemsets) -> DataFrame:
    """A table with mlxtend's columns: `support` and `itemsets`, frozensets."""
    import pandas as pd

    return pd.DataFrame({"support": found.supports, "itemsets": [items for items, _ in found]})


def rules_frame(found: Rules) -> DataFrame:
    """A table with mlxtend's columns: `antecedents` and `consequents`, frozensets, and its measures."""
    import pandas as pd

    sides = {"antecedents": found.sets(found.antecedents), "consequents": found.sets(found.consequents)}
    return pd.DataFrame({**sides, **found.measures()})
