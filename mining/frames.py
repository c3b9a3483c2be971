"""Tables of other libraries, which are imported when asked for: baskets of them, results as them, mlxtend's doors."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import warnings
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mining.apriori import Itemsets, mine_itemsets
from mining.baskets import Baskets
from mining.lattice import Budget
from mining.layouts import Form
from mining.missing import measures_with_missing, rows_of_sets, supports
from mining.readers import long_baskets
from mining.rules import MEASURES, Rules, measures_of, rules
from mining.subsets import Index

if TYPE_CHECKING:
    import pyarrow as pa
    from pandas import DataFrame

    from mining.lexicon import Lexicon

TESTED = ("p_value", "holm", "q_value")


# ---- baskets of tables ----------------------------------------------------------------------------------------------


def table_file(path: Path, transaction: str | None, item: str | None, form: Form | None) -> tuple[Baskets, Form]:
    """The baskets of a .parquet or .feather file, and the form its table has."""
    import pyarrow as pa
    from pyarrow import feather, parquet

    try:
        table = parquet.read_table(path) if path.suffix == ".parquet" else feather.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error
    return table_baskets(table, transaction, item, form)


def table_baskets(
    table: Any, transaction: str | None = None, item: str | None = None, form: Form | None = None
) -> tuple[Baskets, Form]:
    """The baskets of an Arrow table (or of anything that gives one: polars, DuckDB), and its form.

    A column of lists holds baskets; two columns that are named, an item a row; else as `frame_baskets` has it.
    """
    import pyarrow as pa

    table = table if isinstance(table, pa.Table) else pa.table(table)
    lists = [field.name for field in table.schema if pa.types.is_list(field.type) or pa.types.is_large_list(field.type)]
    named = item if item in lists else lists[0] if len(lists) == 1 and item is None else None
    if named is not None:
        return Baskets.of(row or () for row in table.column(named).to_pylist()), "baskets"
    if lists and item is None:
        raise ValueError(f"columns {', '.join(lists)} hold lists: name one with --item")
    return frame_baskets(table.to_pandas(), transaction, item, form)


def frame_baskets(
    frame: DataFrame, transaction: str | None = None, item: str | None = None, form: Form | None = None
) -> tuple[Baskets, Form]:
    """The baskets of a pandas table, and its form.

    Args:
        frame: an item a row, where `transaction` and `item` name its columns; a column an item, where all is 0 and 1;
            else a basket a row, its cells the items.
        transaction: column that says which basket.
        item: column of items.
        form: one of the three.
    """
    if (transaction is None) != (item is None):
        raise ValueError("transaction and item: name both columns, or none")
    if transaction is not None or form == "long":
        columns = [transaction, item] if transaction is not None else [*frame.columns[:2]]
        for name in columns:
            if name not in frame.columns:
                raise ValueError(f"no column {name!r}; there are {', '.join(map(str, frame.columns))}")
        return long_baskets(frame[columns[0]].tolist(), frame[columns[1]].tolist()), "long"
    if form != "baskets" and (form == "onehot" or _is_onehot(frame)):
        return onehot_baskets(frame, [*frame.columns]), "onehot"
    return Baskets.of(frame.astype(object).where(frame.notna(), None).to_numpy().tolist()), "baskets"


def _is_onehot(frame: DataFrame) -> bool:
    """Whether the table is of booleans, or numbers of which all are 0 or 1."""
    import pandas as pd

    kinds = [dtype.subtype if isinstance(dtype, pd.SparseDtype) else dtype for dtype in frame.dtypes]
    if not kinds or not all(pd.api.types.is_bool_dtype(kind) or pd.api.types.is_numeric_dtype(kind) for kind in kinds):
        return False
    values = _sparse_values(frame)[2]
    return bool(np.isin(values[~np.isnan(values.astype(float))], (0, 1)).all())


def _sparse_values(frame: DataFrame) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Rows, columns and values of the cells that are not 0, sorted by row."""
    import pandas as pd

    if len(frame.columns) and all(isinstance(dtype, pd.SparseDtype) for dtype in frame.dtypes):
        coo: Any = frame.sparse.to_coo()  # type: ignore[attr-defined]
        order = np.argsort(coo.row, kind="stable")
        return coo.row[order], coo.col[order], coo.data[order]
    cells = frame.to_numpy()
    if cells.dtype == object:
        cells = frame.astype(float).to_numpy()
    rows, columns = np.nonzero(cells)
    return rows, columns, cells[rows, columns]


def onehot_baskets(frame: DataFrame, names: Sequence[Hashable]) -> Baskets:
    """The baskets of a table with a column an item; NaN is missing.

    Raises ValueError for any other value than 0, 1, True, False.
    """
    rows, columns, values = _sparse_values(frame)
    numbers = values.astype(float)
    missing = np.isnan(numbers)
    wrong = np.flatnonzero((numbers != 1) & (numbers != 0) & ~missing)
    if len(wrong):
        raise ValueError(
            "The allowed values for a DataFrame are True, False, 0, 1. "
            f"Found value {values[wrong[0]]} in row {rows[wrong[0]]}, column {names[columns[wrong[0]]]!r}"
        )
    rows, columns = rows[numbers == 1], columns[numbers == 1]
    lengths = np.bincount(rows, minlength=len(frame))
    notes = Counter({"missing": int(missing.sum()), "empty": int((lengths == 0).sum())})
    return Baskets(names, np.concatenate(([0], np.cumsum(lengths))), columns.astype(np.int32), +notes)


def csr_baskets(matrix: Any, names: Sequence[Hashable] | None = None) -> Baskets:
    """The baskets of a sparse matrix in compressed rows: entries that are not 0; one that stands twice counts once.

    Args:
        matrix: SciPy's, or anything with `indptr`, `indices`, `data` and `shape`.
        names: of its columns; default their numbers.
    """
    n_rows, n_columns = matrix.shape
    names = range(n_columns) if names is None else names
    if len(names) != n_columns:
        raise ValueError(f"names: {len(names)} of them for {n_columns} columns")
    rows = np.repeat(np.arange(n_rows), np.diff(matrix.indptr))
    keys = (rows * n_columns + matrix.indices)[np.asarray(matrix.data) != 0]
    distinct = np.unique(keys)
    rows, columns = np.divmod(distinct, max(n_columns, 1))
    lengths = np.bincount(rows, minlength=n_rows)
    notes = Counter({"duplicates": len(keys) - len(distinct), "empty": int((lengths == 0).sum())})
    return Baskets(names, np.concatenate(([0], np.cumsum(lengths))), columns.astype(np.int32), +notes)


def other_baskets(source: Any) -> Baskets | None:
    """The baskets of a table of another library, found by its looks; None for anything else."""
    kind = type(source).__module__.partition(".")[0]
    if kind == "scipy" or all(hasattr(source, name) for name in ("indptr", "indices", "data", "shape")):
        return csr_baskets(source.tocsr() if hasattr(source, "tocsr") else source)
    if kind == "pandas" and hasattr(source, "columns"):
        return frame_baskets(source)[0]
    if kind == "pyarrow" and not hasattr(source, "schema"):  # an array of lists
        return Baskets.of(row or () for row in source.to_pylist())
    return table_baskets(source)[0] if hasattr(source, "__arrow_c_stream__") and kind != "pandas" else None


# ---- results as tables ----------------------------------------------------------------------------------------------


def itemsets_frame(found: Itemsets) -> DataFrame:
    """A table with mlxtend's columns: `support` and `itemsets`, frozensets."""
    import pandas as pd

    return pd.DataFrame({"support": found.supports, "itemsets": [items for items, _ in found]})


def rules_frame(found: Rules) -> DataFrame:
    """A table with mlxtend's columns: `antecedents` and `consequents`, frozensets, and its measures."""
    import pandas as pd

    sides = {"antecedents": found.sets(found.antecedents), "consequents": found.sets(found.consequents)}
    return pd.DataFrame({**sides, **found.measures()})


def itemsets_table(found: Itemsets) -> pa.Table:
    """Arrow's, a row a set: `items` (lists), `length`, `count`, `support`; the most frequent of a length first."""
    import pyarrow as pa

    order = np.lexsort((-found.counts.astype(np.int64), found.lengths))
    starts = np.cumsum(found.lengths, dtype=np.int64) - found.lengths
    columns = {"length": found.lengths[order], "count": found.counts[order], "support": found.supports[order]}
    arrays = {name: pa.array(values) for name, values in columns.items()}
    return pa.table({"items": _lists(found, starts[order], found.lengths[order]), **arrays})


def rules_table(found: Rules) -> pa.Table:
    """Arrow's, a row a rule: `antecedents` and `consequents` (lists), mlxtend's measures, p-values."""
    import pyarrow as pa

    sets = found.itemsets
    starts = np.cumsum(sets.lengths, dtype=np.int64) - sets.lengths
    sides = {
        name: _lists(sets, starts.take(numbers), sets.lengths.take(numbers))
        for name, numbers in (("antecedents", found.antecedents), ("consequents", found.consequents))
    }
    measures = {**found.measures(), **{name: found.measure(name) for name in TESTED}}
    return pa.table(sides | {name: pa.array(values) for name, values in measures.items()})


def _lists(found: Itemsets, starts: NDArray[Any], lengths: NDArray[Any]) -> pa.Array:
    """Lists of items, each in the order of their names, so that equal sets are equal lists."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = item_names(found.names)
    by_name = pc.sort_indices(names).to_numpy()
    rank = np.empty(len(names), np.int64)
    rank[by_name] = np.arange(len(names))
    ends = np.cumsum(lengths, dtype=np.int64)
    within = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - lengths, lengths)
    ranks = rank.take(found.items.take(np.repeat(starts, lengths) + within))
    rows = np.repeat(np.arange(len(lengths)), lengths) * max(len(names), 1)
    ranks = np.sort(rows + ranks) - rows
    return pa.ListArray.from_arrays(pa.array(np.concatenate(([0], ends)), pa.int32()), names.take(by_name.take(ranks)))


def item_names(names: Sequence[Hashable]) -> pa.Array:
    """The items as Arrow can hold them: numbers where all are, else texts; where 1 and "1" are, quoted ones."""
    import pyarrow as pa

    if all(isinstance(name, (int, np.integer)) and not isinstance(name, bool) for name in names):
        return pa.array([int(name) for name in names], pa.int64())  # type: ignore[call-overload]
    words = [str(name) for name in names]
    return pa.array(words if len({*words}) == len(words) else [repr(name) for name in names], pa.string())


# ---- the doors of mlxtend -------------------------------------------------------------------------------------------


def apriori(
    df: DataFrame,
    min_support: float = 0.5,
    use_colnames: bool = False,
    max_len: int | None = None,
    verbose: int = 0,
    low_memory: bool = False,
    n_jobs: int = 1,
) -> DataFrame:
    """As mlxtend's: `support` and `itemsets` of a one-hot table; verbose, low_memory and n_jobs change nothing."""
    return fpgrowth(df, min_support, False, use_colnames, max_len, verbose)


def fpgrowth(
    df: DataFrame,
    min_support: float = 0.5,
    null_values: bool = False,
    use_colnames: bool = False,
    max_len: int | None = None,
    verbose: int = 0,
) -> DataFrame:
    """As mlxtend's: `support` and `itemsets` of a one-hot table.

    Args:
        df: of True, False, 0, 1.
        min_support: a share above 0.
        null_values: whether NaN is allowed: a set's support is then its share of the rows in which it lacks no cell.
        use_colnames: whether items are named by the columns, or by their numbers.
        max_len: of the sets.
        verbose: changes nothing.
    """
    _check_frame(df, null_values)
    if not 0 < min_support <= 1:
        raise ValueError(f"`min_support` must be a positive number within the interval `(0, 1]`. Got {min_support}.")
    names = [*df.columns] if use_colnames else range(df.shape[1])
    if null_values and df.size:
        return _with_missing(df, float(min_support), names, max_len)
    found = mine_itemsets(onehot_baskets(df, names), float(min_support), max_length=max_len, budget=Budget())
    if not found.complete:
        warnings.warn("there are more itemsets than memory; the table is incomplete: raise min_support", stacklevel=2)
    return found.to_frame()


def _with_missing(df: DataFrame, min_support: float, names: Sequence[Hashable], max_len: int | None) -> DataFrame:
    """Sets that would be frequent if all that is missing were there, and are by their complete rows."""
    import pandas as pd

    present, missing = _masks(df)
    known = len(df) - missing.sum(axis=0)
    rare = np.flatnonzero(present.sum(axis=0) < min_support * np.maximum(known, 1))
    maybe = onehot_baskets(pd.DataFrame(present | missing), range(df.shape[1]))
    found = mine_itemsets(maybe, min_support, max_length=max_len, exclude=rare.tolist())
    values = supports(*rows_of_sets(found, present, missing))
    found = dataclasses.replace(found, names=names).where(values >= min_support)
    return pd.DataFrame({"support": values[values >= min_support], "itemsets": [items for items, _ in found]})


def _masks(df: DataFrame) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(n_rows, n_items) which cells are 1, and which are missing."""
    cells = df.astype(float).to_numpy()
    return cells == 1, np.isnan(cells)


def _check_frame(df: DataFrame, null_values: bool) -> None:
    """What mlxtend refuses and warns of."""
    import pandas as pd

    if df.size == 0:
        return
    if not all(pd.api.types.is_bool_dtype(getattr(dtype, "subtype", dtype)) for dtype in df.dtypes):
        text = "DataFrames with non-bool types result in worse performance; use a DataFrame with bool type"
        warnings.warn(text, DeprecationWarning, stacklevel=3)
        if not null_values and df.isna().any(axis=None):
            raise ValueError("NaN values are not permitted in the DataFrame when null_values=False.")


def association_rules(
    df: DataFrame,
    num_itemsets: int | None = 1,
    df_orig: DataFrame | None = None,
    null_values: bool = False,
    metric: str = "confidence",
    min_threshold: float = 0.8,
    support_only: bool = False,
    return_metrics: Sequence[str] = MEASURES,
) -> DataFrame:
    """As mlxtend's: rules of a table of `support` and `itemsets`.

    Args:
        df: every part of an itemset must be there too, unless `support_only`.
        num_itemsets: rows of the table it came from; changes nothing without null_values.
        df_orig: that table; changes nothing without null_values.
        null_values: whether cells of it are missing; see `fpgrowth`.
        metric: one of mlxtend's twelve.
        min_threshold: the least it may be.
        support_only: whether only `support` is filled.
        return_metrics: columns beside the two sides.
    """
    import pandas as pd

    if null_values and (df_orig is None or num_itemsets != len(df_orig)):
        raise TypeError("null_values=True: df_orig, and num_itemsets = its rows, must be provided")
    if metric not in MEASURES and not support_only:
        raise ValueError(f"Metric must be one of {', '.join(MEASURES)}, got '{metric}'")
    for column in ("support", "itemsets"):
        if column not in df.columns:
            raise ValueError(f"Dataframe needs to contain the columns 'support' and 'itemsets'; there is no '{column}'")
    if not len(df):
        raise ValueError("The input DataFrame `df` containing the frequent itemsets is empty.")
    values, found = _framed_itemsets(df)
    if support_only:
        return _support_only(found, values, min_threshold, return_metrics)
    _check_parts(found)
    is_bound = metric == "confidence" and not null_values
    made = rules(found, min(max(min_threshold - 1e-9, 0.0), 1.0) if is_bound else 0.0)
    if null_values and df_orig is not None:
        measured = measures_with_missing(made, values, *rows_of_sets(found, *_masks(_named(df_orig, found))))
    else:
        a, c, both = (values.take(numbers) for numbers in (made.antecedents, made.consequents, made.unions))
        measured = measures_of(a, c, both, 1)
    kept = measured[metric] >= min_threshold
    made = made.where(kept)
    if not len(made):
        return pd.DataFrame(columns=["antecedents", "consequents", *return_metrics])
    sides = {"antecedents": made.sets(made.antecedents), "consequents": made.sets(made.consequents)}
    return pd.DataFrame({**sides, **{name: measured[name][kept] for name in return_metrics}})


def _named(df_orig: DataFrame, found: Itemsets) -> DataFrame:
    """The columns of the items, in the order of their ids; items are titles or numbers of columns."""
    places: dict[Hashable, int] = {name: at for at, name in enumerate(df_orig.columns)}
    return df_orig.take([places[name] if name in places else int(str(name)) for name in found.names], axis=1)


SCALE = 1 << 50  # supports are read as counts of so many baskets


def _framed_itemsets(df: DataFrame) -> tuple[NDArray[np.float64], Itemsets]:
    """Supports and itemsets of mlxtend's table, the shorter first; a support as a count of `SCALE` baskets."""
    sets = [frozenset(int(x) if isinstance(x, np.integer) else x for x in row) for row in df["itemsets"]]
    lengths = np.array([*map(len, sets)], np.int64)
    order = np.argsort(lengths, kind="stable")
    supports = df["support"].to_numpy(float)[order]
    ids: dict[Hashable, int] = {}
    items = np.array([ids.setdefault(item, len(ids)) for at in order for item in sets[at]], np.int64)
    counts = (supports * SCALE).astype(np.int64)
    return supports, Itemsets(items, lengths[order], counts, SCALE, list(ids), 1)


def _check_parts(found: Itemsets) -> None:
    """Raises KeyError where a part of an itemset is missing."""
    index = Index(tables := found.by_length())
    for length, (table, _) in tables.items():
        keys = index.code.take(table)
        for column in keys.T if length > 1 else ():
            parts = index.find(keys.sum(axis=1, dtype=np.uint64) - column, length - 1)
            if (parts < 0).any():
                names = ", ".join(str(found.names[item]) for item in table[int(np.argmin(parts))])
                raise KeyError(f"a part of ({names}) is missing: its support is unknown; use `support_only=True`")


def _support_only(
    found: Itemsets, supports: NDArray[np.float64], min_threshold: float, return_metrics: Sequence[str]
) -> DataFrame:
    """Every way to cut the itemsets that are frequent enough in two; of the measures `support` alone."""
    import pandas as pd

    rows = [
        (frozenset(head), items - frozenset(head), support)
        for (items, _), support in zip(found, supports.tolist(), strict=True)
        if support >= min_threshold
        for size in range(len(items) - 1, 0, -1)
        for head in itertools.combinations(items, size)
    ]
    table = pd.DataFrame(rows, columns=["antecedents", "consequents", "support"])
    return table.reindex(columns=["antecedents", "consequents", *return_metrics])


def text_column(path: Path, column: str) -> Iterator[str]:
    """The texts of a column of a Parquet file; ValueError for another column or file. Empty cells are left out."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            found = file.schema_arrow
            at = found.get_field_index(column)
            if at < 0 or not (pa.types.is_string(found.types[at]) or pa.types.is_large_string(found.types[at])):
                raise ValueError(
                    f"{path}: no column '{column}' of texts; found: {', '.join(found.names)}; name it by --field"
                )
            for batch in file.iter_batches(1000, columns=[column]):
                yield from (text for text in batch.column(0).to_pylist() if text)
    except (OSError, pa.ArrowException) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path}: not a whole Parquet file ({reason}); fetch it again") from error


def hub_texts(name: str, field: str = "text", split: str = "train") -> Iterator[str]:
    """The texts of a set on the Hugging Face Hub as they are downloaded; nothing is kept.

    Args:
        name: OWNER/NAME, or OWNER/NAME:CONFIG.
        field: column of the text.
        split: part of the set.

    Raises:
        ValueError: The library `datasets` or the Hub is not there; no such set, part or column.
    """
    try:
        import datasets
    except ImportError as error:
        raise ValueError(f"hub:{name}: needs the library datasets; pip install datasets") from error
    # offline it reports each of its retries; what they come to is said below, once
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    repo, _, config = name.partition(":")
    try:
        rows = iter(datasets.load_dataset(repo, config or None, split=split, streaming=True))
        for number in itertools.count():
            row = next(rows, None)
            if row is None:
                return
            if not isinstance(row.get(field), str):
                raise KeyError(f"row {number} has no text '{field}' but {', '.join(row)}: name it by --field")
            yield row[field]
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        reason = next(iter(str(error.args[0] if error.args else "").splitlines()), type(error).__name__)
        raise ValueError(f"hub:{name}: {reason}; or give its files, fetched on another machine, by path") from error


def lexicon_frame(found: Lexicon) -> DataFrame:
    """A table with a row a word, best first: `word`, the evidence, and whether it `is_known`."""
    import pandas as pd

    return pd.DataFrame({"word": found.words, **found.columns()})


def jieba_words() -> frozenset[str]:
    """The words of jieba's own dictionary, without loading its segmenter; ValueError where it is not installed."""
    from importlib.util import find_spec

    spec = find_spec("jieba")
    if spec is None or spec.origin is None:
        raise ValueError("jieba is not installed: pip install jieba, or give a file with a word a line")
    lines = (Path(spec.origin).parent / "dict.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line.split(" ", 1)[0] for line in lines)
