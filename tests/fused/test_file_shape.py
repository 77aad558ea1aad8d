"""The kernel's file can be pasted anywhere: it holds imports, kernels, wrappers and ModelNew, in that order."""

import ast
from pathlib import Path

import pytest

import fused

SOURCE = Path(fused.__file__).with_name("conv_scale_min.py")
ALLOWED_IMPORTS = {
    ("torch", None),
    ("torch.nn", "nn"),
    ("triton", None),
    ("triton.language", "tl"),
}
ORDER = ["docstring", "import", "kernel", "wrapper", "ModelNew"]


@pytest.fixture(scope="module")
def tree() -> ast.Module:
    return ast.parse(SOURCE.read_text(encoding="utf-8"))


def is_kernel(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator).startswith("triton.jit") for decorator in node.decorator_list)


def kind(node: ast.stmt) -> str:
    """One of ORDER, or the source line of a statement that has no place in the file."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return "docstring"
    if isinstance(node, ast.Import):
        return "import"
    if isinstance(node, ast.FunctionDef):
        return "kernel" if is_kernel(node) else "wrapper"
    if isinstance(node, ast.ClassDef) and node.name == "ModelNew":
        return "ModelNew"
    return f"line {node.lineno}: {ast.unparse(node).splitlines()[0]}"


def test_top_level_has_only_the_allowed_statements_in_order(tree: ast.Module) -> None:
    kinds = [kind(node) for node in tree.body]
    strangers = [name for name in kinds if name not in ORDER]
    assert not strangers, f"{SOURCE.name} may not hold {strangers} at top level: make it part of a function"
    ranks = [ORDER.index(name) for name in kinds]
    first_bad = next((i for i in range(1, len(ranks)) if ranks[i] < ranks[i - 1]), None)
    assert first_bad is None, (
        f"{SOURCE.name}, line {tree.body[first_bad].lineno}: a {kinds[first_bad]} comes after a "
        f"{kinds[first_bad - 1]}; move it up, the order is {', '.join(ORDER)}"
    )


def test_docstring_and_model_stand_once_at_the_ends(tree: ast.Module) -> None:
    kinds = [kind(node) for node in tree.body]
    for name, place in (("docstring", 0), ("ModelNew", len(kinds) - 1)):
        assert [i for i, found in enumerate(kinds) if found == name] == [place], (
            f"{SOURCE.name} needs exactly one {name}, as statement {place} of the file"
        )


def test_imports_are_the_allowed_ones_and_none_hides_in_a_function(tree: ast.Module) -> None:
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    hidden = [node.lineno for node in nodes if node not in tree.body or isinstance(node, ast.ImportFrom)]
    assert not hidden, f"{SOURCE.name}, lines {hidden}: import only at the top, and only as `import ...`"
    found = {(alias.name, alias.asname) for node in nodes for alias in node.names}
    assert found == ALLOWED_IMPORTS, f"{SOURCE.name} imports {found ^ ALLOWED_IMPORTS} too much or too little"


def test_the_file_is_no_script_and_has_no_harness(tree: ast.Module) -> None:
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    harness = {name for name in functions if name.startswith(("test", "get_inputs", "get_init_inputs", "main"))}
    assert not harness, f"{SOURCE.name} defines {sorted(harness)}: tests and harness belong elsewhere"
    assert "__main__" not in SOURCE.read_text(encoding="utf-8"), f"{SOURCE.name} must not be a script"


def test_model_takes_the_four_arguments_of_the_benchmark(tree: ast.Module) -> None:
    model = next(node for node in tree.body if isinstance(node, ast.ClassDef))
    init = next(node for node in model.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    names = [argument.arg for argument in init.args.args]
    assert names == ["self", "in_channels", "out_channels", "kernel_size", "scale_factor"], (
        f"ModelNew.__init__ takes {names}: whatever compares models passes the four arguments by position"
    )
