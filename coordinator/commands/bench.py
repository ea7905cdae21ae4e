"""`gradsieve bench`: the benchmarks whose results are in the documentation, as `scripts/bench` runs them."""

import sys
from importlib import import_module
from typing import Annotated

import typer

NAMES = ("codec", "compression", "device", "runtime", "watch")


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help=f"one of {', '.join(NAMES)}")],
) -> None:
    """Run one benchmark; what follows its name goes to it, such as --quick, --out FILE or --help."""
    if name not in NAMES:
        raise typer.BadParameter(f"no benchmark is called {name}: choose one of {', '.join(NAMES)}")
    sys.argv = [f"gradsieve bench {name}", *context.args]
    import_module(f"coordinator.bench.{name}").main()
