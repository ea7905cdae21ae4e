import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_resident_agent_loads_neither_numpy_nor_onnxruntime() -> None:
    code = "import sys, edge_client.main; sys.exit(bool({'numpy', 'onnxruntime', 'PIL'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120).returncode == 0
