"""The run report: one self-contained HTML file with pictures of a run, drawn from its journal and summary."""
