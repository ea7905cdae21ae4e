"""The tasks gradsieve ships, by the name a job file gives."""

from coordinator.tasks.task import Task
from coordinator.tasks.watch import WATCH
from shared.errors import SettingsError

TASKS = {task.name: task for task in (WATCH,)}


def task_by_name(name: str) -> Task:
    """The task of that name; raises `SettingsError` listing those there are."""
    if name not in TASKS:
        raise SettingsError(f"task {name!r} is unknown: choose one of {', '.join(sorted(TASKS))}")
    return TASKS[name]
