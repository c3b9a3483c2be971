"""An Optuna study as a plain document, and a study from one: its name is there only when it is whole.

A document holds numbers of trials where Optuna's database holds ids of its own.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from experiments.store.location import Store
from experiments.store.studies import ATTRIBUTE, _open

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.storages import RDBStorage
    from optuna.study._frozen import FrozenStudy
    from optuna.trial import FrozenTrial

Document = dict[str, Any]
MARK = " (being imported)"  # ends the name of a study that is not whole
_PARENTS = ":parent:"  # in keys of a study: ids of the trials that a genetic sampler bred from


def studies(store: Store) -> Iterator[Document]:
    """Every whole study of the store, in the order of their making."""
    storage = _open(store)
    if storage is None:
        return
    for study in sorted(storage.get_all_studies(), key=lambda each: each._study_id):
        if not study.study_name.endswith(MARK):
            yield _document(storage, study)


def run_of(document: Document) -> str:
    """Id of the sweep's run; empty for a study of somebody else's."""
    return str(document["user_attrs"].get(ATTRIBUTE, {}).get("run_id", ""))


def write_study(storage: RDBStorage, document: Document) -> None:
    """The study in Optuna's tables under its name and MARK; `name_studies` gives it its own."""
    import optuna
    from optuna.study import StudyDirection

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    name = document["name"] + MARK
    for left in storage.get_all_studies():
        if left.study_name == name:
            storage.delete_study(left._study_id)
    study = storage.create_new_study([StudyDirection[each] for each in document["directions"]], name)
    ids = [storage.create_new_trial(study, template_trial=_frozen(trial)) for trial in document["trials"]]
    for number, trial in zip(ids, document["trials"], strict=True):
        if trial["state"] == "RUNNING":
            storage.record_heartbeat(number)  # a lease that nobody renews: the next sweep takes the trial over
    for key, value in document["user_attrs"].items():
        storage.set_study_user_attr(study, key, value)
    for key, value in document["system_attrs"].items():
        storage.set_study_system_attr(study, key, [ids[number] for number in value] if _PARENTS in key else value)


def name_studies(storage: RDBStorage) -> None:
    """Gives the studies that `write_study` made their names, all at once; Optuna itself renames none."""
    from sqlalchemy import text

    change = text("UPDATE studies SET study_name = :name WHERE study_name = :made")
    names = [each.study_name for each in storage.get_all_studies() if each.study_name.endswith(MARK)]
    with storage.engine.begin() as connection:
        for name in names:
            connection.execute(change, {"name": name.removesuffix(MARK), "made": name})


def remove_unnamed(storage: RDBStorage) -> None:
    """Removes studies that an import left behind which did not come to its end."""
    for study in storage.get_all_studies():
        if study.study_name.endswith(MARK):
            storage.delete_study(study._study_id)


def _document(storage: RDBStorage, study: FrozenStudy) -> Document:
    trials = storage.get_all_trials(study._study_id, deepcopy=False)
    numbers = {trial._trial_id: trial.number for trial in trials}
    return {
        "name": study.study_name,
        "directions": [direction.name for direction in study.directions],
        "user_attrs": dict(study.user_attrs),
        "system_attrs": {
            key: [numbers[each] for each in value] if _PARENTS in key else value
            for key, value in study.system_attrs.items()
        },
        "trials": [_trial(trial) for trial in trials],
    }


def _trial(trial: FrozenTrial) -> Document:
    from optuna.distributions import distribution_to_json

    kinds = trial.distributions
    return {
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "started": trial.datetime_start and trial.datetime_start.isoformat(),
        "ended": trial.datetime_complete and trial.datetime_complete.isoformat(),
        "params": {key: kind.to_internal_repr(trial.params[key]) for key, kind in kinds.items()},  # a category's place
        "distributions": {key: distribution_to_json(kind) for key, kind in kinds.items()},
        "user_attrs": dict(trial.user_attrs),
        "system_attrs": dict(trial.system_attrs),
        "intermediate_values": {str(step): value for step, value in sorted(trial.intermediate_values.items())},
    }


def _frozen(document: Document) -> FrozenTrial:
    from optuna.distributions import json_to_distribution
    from optuna.trial import FrozenTrial, TrialState

    kinds = {key: json_to_distribution(text) for key, text in document["distributions"].items()}
    return FrozenTrial(
        number=document["number"],
        trial_id=-1,  # given by the database
        state=TrialState[document["state"]],
        value=None,
        values=document["values"],
        datetime_start=document["started"] and datetime.fromisoformat(document["started"]),
        datetime_complete=document["ended"] and datetime.fromisoformat(document["ended"]),
        params={key: kinds[key].to_external_repr(value) for key, value in document["params"].items()},
        distributions=kinds,
        user_attrs=document["user_attrs"],
        system_attrs=document["system_attrs"],
        intermediate_values={int(step): value for step, value in document["intermediate_values"].items()},
    )
