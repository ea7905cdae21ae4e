"""`gradsieve`: the command line of operator and researcher. Each command is a file in `commands/`."""

import os
import signal
import sys

import click
import typer

from coordinator.commands.bench import bench
from coordinator.commands.bundle import bundle
from coordinator.commands.codec import codec
from coordinator.commands.demo import demo
from coordinator.commands.emulate import emulate
from coordinator.commands.export import export
from coordinator.commands.plan import plan
from coordinator.commands.report import report
from coordinator.commands.run import run
from coordinator.commands.serve import serve
from coordinator.commands.split import split
from coordinator.commands.status import status
from shared.errors import GradsieveError

INTERRUPTED = 130
"""What typer returns for an interrupt from the keyboard."""
IO_ERROR = 74
"""Exit code for a file or folder that cannot be used; as in sysexits.h."""

app = typer.Typer(
    help="Federated learning for edge boards over MQTT: a device uploads only the gradients that matter.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, run, emulate, split, plan, serve, status, report, export):
    app.command()(command)
app.command(context_settings={"allow_extra_args": True, "allow_interspersed_args": False})(bench)
app.add_typer(bundle, name="bundle")
app.add_typer(codec, name="codec")


def main() -> None:
    """Run a command; an error of ours is one line on stderr and its own exit code, never a traceback."""
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except GradsieveError as error:
        print(f"gradsieve: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"gradsieve: {error}: check the path, its rights and the space left", file=sys.stderr)
        sys.exit(IO_ERROR)
    if code == INTERRUPTED:
        print("gradsieve: interrupted; `gradsieve run` continues with --resume", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
