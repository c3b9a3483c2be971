"""`--model.init_from run:RUN`: a run's best weights to begin from, as the path that a config keeps."""

from __future__ import annotations

from dataclasses import replace

from experiments.config import Config
from experiments.errors import ConfigError
from experiments.load import checkpoint_file, refuse_without_model
from experiments.store.location import Store
from experiments.store.read import find_run, read_run

RUN = "run:"
USES = "taolu.uses"  # tag: a run that is needed as long as this one is there


def with_weights(config: Config, store: Store) -> tuple[Config, dict[str, str]]:
    """The config with run:RUN replaced by that run's checkpoint, and the tags that say so.

    Raises ConfigError where there is no such run, or it has no checkpoint.
    """
    source = config.values.get("model", {}).get("init_from")
    if not isinstance(source, str) or not source.startswith(RUN):
        return config, {}
    record = read_run(store, find_run(store, source.removeprefix(RUN)))
    refuse_without_model(record)
    file = checkpoint_file(record, "best")
    if not file.exists():
        raise ConfigError(f"model.init_from = {source}: run {record.run_id[:8]} has no checkpoint; name another")
    model = {**config.values["model"], "init_from": str(file)}
    return replace(config, values={**config.values, "model": model}), {USES: record.run_id}
