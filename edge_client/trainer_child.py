"""The trainer's own process: orders come in on standard input, one JSON line each, answers go out the same way."""

import edge_client.plain_hashes  # noqa: F401

# isort: split
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import BinaryIO

from edge_client.background import give_way
from edge_client.data_settings import DataSourceSettings
from edge_client.data_sources import source_for
from edge_client.inline_trainer import InlineTrainer
from edge_client.memory import peak_rss_bytes
from edge_client.orders import ORDER, to_line
from shared.messages import parse

OOM_SCORE = "500"


def main(state_dir: str, data_dir: str, data_source: str = "{}") -> None:
    """Carry out orders until standard input ends; `data_source` are its settings as JSON."""
    _be_killed_first()
    give_way()
    answers = _take_stdout()
    lines: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_read, args=(sys.stdin.buffer, lines), daemon=True).start()
    source = source_for(Path(data_dir), DataSourceSettings.model_validate_json(data_source))
    trainer = InlineTrainer(Path(state_dir), source, time.monotonic)
    while True:
        trainer.submit(parse(ORDER, lines.get()))
        for answer in trainer.poll():
            answers.write(to_line(answer.model_copy(update={"peak_rss_bytes": peak_rss_bytes()})))
        answers.flush()


def _read(source: BinaryIO, lines: "SimpleQueue[bytes]") -> None:
    """Queue what comes in; when the agent ends, so does this process, even in the middle of an order."""
    for line in source:
        lines.put(line)
    os._exit(0)


def _take_stdout() -> BinaryIO:
    """Keep standard output for answers; whatever a library prints goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _be_killed_first() -> None:
    """When memory runs out, the kernel is to take the trainer and leave the agent."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)


if __name__ == "__main__":
    main(*sys.argv[1:])
