"""The smallest and the largest value of one metric in every run: what the tracker's own table of last values lacks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from experiments.store.location import Store
from experiments.store.tables import read_extremes

if TYPE_CHECKING:
    import pandas as pd


def extremes(store: Store, key: str) -> pd.DataFrame:
    """Columns smallest and largest, indexed by run_id: over every finite value that the runs logged of one metric.

    A run without such a value has no row.
    """
    import pandas as pd

    rows = read_extremes(store, key, below=sys.float_info.max)  # MLflow stores infinity as the largest number
    return pd.DataFrame(rows, columns=["run_id", "smallest", "largest"]).set_index("run_id").astype(float)
