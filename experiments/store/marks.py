"""What a person says of runs afterwards: a note, tags, whether a run is put aside. The dashboard's only writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from experiments.errors import ConfigError
from experiments.store.location import Store, redact, redact_value
from experiments.store.read import NOTE
from experiments.store.write import open_store

ARCHIVED = "taolu.archived"  # tag: put aside; lists leave such runs out until they are asked for
LONGEST_NOTE = 5_000  # MLflow takes 8,000 bytes of a tag in some databases; Chinese takes three a character in others
LONGEST_TAG = 500
_OURS = ("taolu.", "mlflow.")


def set_note(store: Store, run_ids: Sequence[str], note: str) -> None:
    """The runs' note, replaced; an empty one removes it.

    Raises ConfigError for a note that is too long.
    """
    if len(note) > LONGEST_NOTE:
        raise ConfigError(f"note of {len(note)} characters: at most {LONGEST_NOTE} are kept; shorten it")
    _set(store, run_ids, {NOTE: redact(note) or None})


def set_tags(store: Store, run_ids: Sequence[str], tags: Mapping[str, str]) -> None:
    """The runs' tags, set or replaced; an empty value removes one.

    Raises ConfigError for a name that is the tracker's own, or a text that is too long.
    """
    for key, value in tags.items():
        if not key or key.startswith(_OURS):
            raise ConfigError(f"tag '{key}': names that begin with {' or '.join(_OURS)} are kept for taolu and MLflow")
        if max(len(key), len(value)) > LONGEST_TAG:
            raise ConfigError(f"tag '{key[:40]}': at most {LONGEST_TAG} characters are kept of a name or value")
    _set(store, run_ids, {key: redact_value(key, value) or None for key, value in tags.items()})


def set_archived(store: Store, run_ids: Sequence[str], *, archived: bool) -> None:
    """The runs put aside, or taken back."""
    _set(store, run_ids, {ARCHIVED: "true" if archived else None})


def _set(store: Store, run_ids: Sequence[str], tags: Mapping[str, str | None]) -> None:
    """The tags of the runs; None removes one.

    Raises ConfigError in one line when the store cannot be written, or holds no such run.
    """
    from mlflow.exceptions import MlflowException

    client = open_store(store)
    for run_id in run_ids:
        try:
            before = client.get_run(run_id).data.tags
            for key, value in tags.items():
                if value is not None:
                    client.set_tag(run_id, key, str(value))
                elif key in before:
                    client.delete_tag(run_id, key)
        except MlflowException as error:
            raise ConfigError(f"run {run_id[:8]}: cannot be marked ({redact(str(error).splitlines()[0])})") from error
