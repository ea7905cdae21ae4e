"""Who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    "shared": {"coordinator", "edge_client", "flwr", "torch", "onnx", "onnxruntime", "safetensors"},
    "edge_client": {"coordinator", "flwr", "torch", "onnx", "safetensors"},
    "coordinator": {"edge_client", "onnxruntime"},
}
FLOWER_CLIENTS = {f"edge_client/{name}.py" for name in ("context_room", "flower_app", "flower_job", "flower_sieve")}
EXEMPT = FLOWER_CLIENTS | {"edge_client/torch_runtime.py"}
SERVING = {
    "admission", "aggregation", "intake", "journal", "link", "publisher", "records", "round_offer", "send_histories",
}  # fmt: skip
"""What a cluster head has in common with a coordinator: neither torch nor Flower is in it."""
BANNED_NAMES = {"utils.py", "helpers.py", "common.py", "manager.py", "base.py", "misc.py"}


def imported_packages(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


def python_files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("package", FORBIDDEN)
def test_package_imports_nothing_forbidden(package: str) -> None:
    files = [file for file in python_files(package) if str(file.relative_to(ROOT)) not in EXEMPT]
    files = [file for file in files if "edge_client/head/" not in str(file)]
    assert files, f"{package} has no Python files"
    for file in files:
        found = imported_packages(file) & FORBIDDEN[package]
        assert not found, f"{file.relative_to(ROOT)} imports {sorted(found)}"


def test_only_one_file_touches_private_parts_of_flower() -> None:
    public = {"flwr.app", "flwr.serverapp", "flwr.serverapp.strategy", "flwr.clientapp", "flwr.simulation"}
    for file in python_files("coordinator"):
        if file.name == "flower_compat.py":
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("flwr"):
                assert node.module in public, f"{file.relative_to(ROOT)} imports {node.module}"


def test_every_file_is_named_for_a_noun_of_the_field() -> None:
    for package in FORBIDDEN:
        drawers = [file for file in python_files(package) if file.name in BANNED_NAMES]
        assert not drawers, f"name these for what they hold: {drawers}"


def test_tests_have_no_packages() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_a_head_imports_the_serving_half_of_the_coordinator_and_no_more() -> None:
    for file in python_files("edge_client/head"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in names:
                package, _, module = name.partition(".")
                assert package not in FORBIDDEN["edge_client"] - {"coordinator"}, f"{file.name} imports {name}"
                assert package != "coordinator" or module in SERVING, f"{file.name} imports {name}"


def test_a_head_loads_neither_torch_nor_flower() -> None:
    program = "import sys, edge_client.head.main; print(*{'torch', 'flwr', 'onnx'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""
