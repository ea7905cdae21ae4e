"""`python -m tests.fuzz.coverage_guided TARGET [libFuzzer options]`: fuzz a target with atheris, guided by coverage."""

import sys
import warnings

import atheris

with atheris.instrument_imports(include=["shared"]):
    from tests.fuzz.targets import CORPUS, TARGETS


def main() -> None:
    """Inputs that reach new code are kept in runs/fuzz; one that fails is added to the corpus."""
    program, name, *options = sys.argv
    warnings.simplefilter("error")
    found = CORPUS.parents[2] / "runs" / "fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    folders = [str(found), str(CORPUS / name)]
    atheris.Setup([program, *options, f"-artifact_prefix={CORPUS / name}/offender-", *folders], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
