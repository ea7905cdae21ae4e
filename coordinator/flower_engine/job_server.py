"""A job as a Flower ServerApp: `flwr run` trains it, on the Simulation Engine or on SuperLink and SuperNodes."""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from coordinator.assembly import prepare
from coordinator.checkpoints import CheckpointStore
from coordinator.flower_engine.engine_grid import EngineGrid
from coordinator.flower_engine.engine_muster import EngineMuster
from coordinator.intake import Intake
from coordinator.job import Job, load_job
from coordinator.journal import Journal
from coordinator.records import RoundRecord
from coordinator.report.page import write_report
from coordinator.run import Progress, Run
from coordinator.run_entry import enter_run, signing_key, strategy_of
from coordinator.run_folder import KEY_FILE, RunFolder
from coordinator.summary import run_figures, score_text, write_json
from shared.errors import RunError
from shared.folder_lock import folder_lock

log = logging.getLogger("flwr")
"""What Flower shows of an app."""

OUT = "out"
"""In the app's run config: the run folder, for one other than `runs/<job name>-flower`."""


def job_server_app(job_file: Path) -> ServerApp:
    """The ServerApp of a job; its clients are `edge_client.flower_job.job_client_app`.

    A run that ended early, however it did, goes on when it is started again with the same folder.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        job = load_job(job_file)
        out = str(context.run_config.get(OUT) or Path("runs") / f"{job.name}-flower")
        train(job, RunFolder(Path(out)), grid)

    return app


def train(job: Job, folder: RunFolder, grid: Grid) -> dict[str, object]:
    """Train a job over a Grid of Flower's to its end, and give its figures; folder, model and report are as ever."""
    folder.begin(resume=folder.journal.is_file())
    with engine_run(job, folder, grid) as run:
        final = run.execute()
        run.strategy.save_model(folder.model)
        received_bytes = sum(device.received_bytes for device in run.devices())
        figures = run_figures(run, final) | {"clients": len(run.devices()), "uplink_bytes": received_bytes}
        write_json(folder.summary, figures)
        run.finish()
    write_report(folder)
    log.info("%s   model %s   report %s", score_text(final), folder.model, folder.report)
    return figures


@contextmanager
def engine_run(job: Job, folder: RunFolder, grid: Grid) -> Iterator[Run]:
    """A run over a Grid of Flower's, ready to execute; the folder is this process's alone until the block ends."""
    torch.set_num_threads(1)
    key = signing_key(folder.path / KEY_FILE)
    with folder_lock(folder.path):
        if not folder.journal.exists():
            prepare(job, folder, key)
        with closing(Journal.open(folder.journal)) as journal:
            run_id = _entered(journal, job, folder)
            strategy, intake = strategy_of(job, run_id, folder, key), Intake(journal, run_id)
            accepted = {update.device: update.server_round for update in journal.updates(run_id)}
            over = EngineGrid(grid, intake, key.verify_key.hex, accepted)
            checkpoints = CheckpointStore(folder.checkpoints)
            yield Run(job, strategy, journal, checkpoints, EngineMuster(over), over, intake, _progress, _closed)


def _entered(journal: Journal, job: Job, folder: RunFolder) -> str:
    try:
        return enter_run(journal, job, folder)
    except RunError as error:
        remedy = "give flwr run --run-config 'out=\"another folder\"' to begin anew"
        raise RunError(f"{folder.path} cannot go on: {error}; {remedy}") from error


def _progress(progress: Progress) -> None:
    log.info("round %d: %s", progress.server_round, progress.phase)


def _closed(record: RoundRecord) -> None:
    loss = record.figures.get("train_loss")
    told = "" if loss is None else f", training loss {loss:.4g}"
    log.info("round %d: %d updates%s", record.server_round, record.figures.get("updates", 0), told)
