"""The tasks gradsieve ships, by name: those a job file may give, and those of benchmarks, whose data are arrays."""

from collections.abc import Mapping
from typing import TypeVar

from coordinator.tasks.array_task import ArrayTask
from coordinator.tasks.cifar10 import CIFAR10
from coordinator.tasks.crowd import CROWD
from coordinator.tasks.digits import DIGITS
from coordinator.tasks.drill import DRILL
from coordinator.tasks.mnist import FASHION_MNIST, MNIST
from coordinator.tasks.motions import MOTIONS
from coordinator.tasks.spoken_digits import SPOKEN_DIGITS
from coordinator.tasks.task import Task
from coordinator.tasks.watch import WATCH
from coordinator.tasks.watch_windows import WATCH_WINDOWS
from shared.errors import SettingsError

TASKS = {task.name: task for task in (WATCH, DRILL)}
ARRAY_TASKS = {
    task.name: task for task in (DIGITS, MNIST, FASHION_MNIST, CIFAR10, WATCH_WINDOWS, MOTIONS, SPOKEN_DIGITS, CROWD)
}

AnyTask = TypeVar("AnyTask", Task, ArrayTask)


def task_by_name(name: str) -> Task:
    """The task of that name; raises `SettingsError` listing those there are."""
    return _chosen(TASKS, name)


def array_task_by_name(name: str) -> ArrayTask:
    """The benchmark task of that name; raises `SettingsError` listing those there are."""
    return _chosen(ARRAY_TASKS, name)


def _chosen(tasks: Mapping[str, AnyTask], name: str) -> AnyTask:
    if name not in tasks:
        raise SettingsError(f"task {name!r} is unknown: choose one of {', '.join(sorted(tasks))}")
    return tasks[name]
