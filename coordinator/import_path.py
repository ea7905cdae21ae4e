"""An object of the user's own code, named as `package.module:name` or `folder/file.py:name`."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from coordinator.export.origin import fault_line
from shared.errors import ExportError

FAULTS = (
    *(ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError),
    *(RuntimeError, SyntaxError, TypeError, ValueError),
)
"""What importing or calling a user's code raises when it is wrong."""


def load_object(path: str) -> object:
    """The object that `path` names; modules are looked for in the working folder first.

    Runs the module's code, as any import does. Raises `ExportError` naming what is not there, or why it fails.
    """
    source, _, name = path.rpartition(":")
    if not source or not name.isidentifier():
        raise ExportError(f"{path}: not of the form module:name, such as net:Net or models/net.py:Net")
    try:
        module = _load_file(Path(source)) if source.endswith(".py") else _load_module(source)
    except FAULTS as error:
        raise ExportError(f"{source}: {fault(error)}") from error
    if not hasattr(module, name):
        own = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        raise ExportError(f"{source} has no {name}: choose one of {', '.join(sorted(own)) or 'what it defines'}")
    return getattr(module, name)


def fault(error: BaseException) -> str:
    """One line on what went wrong in a user's code, and where."""
    line = fault_line(error)
    text = (str(error).strip().splitlines() or ["no reason given"])[0]
    return f"{type(error).__name__}: {text}" + (f"; at {line}" if line else "")


def _load_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    if importlib.util.find_spec(name) is None:
        raise ExportError(f"{name}: no such module: work in the folder where it lies, or give the file, as net.py:Net")
    return importlib.import_module(name)


def _load_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise ExportError(f"{file}: there is no such file")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ExportError(f"{file}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module
