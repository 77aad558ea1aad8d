"""Every operator makes what it says, of any kernel, and nothing outside of what a call computes."""

from __future__ import annotations

import difflib
import textwrap

import pytest

from fuzz.mutation.mutant import mutants_of, name_of
from fuzz.mutation.operators import OPERATORS


def kernel(*lines: str, parameters: str = "x_ptr, n, stride_h, stride_w, BLOCK: tl.constexpr") -> str:
    body = textwrap.indent("\n".join(lines), "    ")
    return f"import triton.language as tl\n\n@triton.jit\ndef kernel({parameters}):\n{body}\n"


def host(*lines: str) -> str:
    return "def launch(x, out):\n" + textwrap.indent("\n".join(lines), "    ") + "\n"


# For each operator a source, and what it makes of it.
MADE: dict[str, tuple[str, list[str]]] = {
    "mask term dropped": (kernel("mask = a & b"), ["(a)", "(b)"]),
    "mask removed": (
        kernel("v = tl.load(p, mask=m, other=0.0)", "tl.store(p, v, mask=m)"),
        ["tl.load(p)", "tl.store(p, v)"],
    ),
    "other changed": (
        kernel("v = tl.load(p, mask=m, other=0.0)"),
        ["tl.load(p, mask=m, other=(1.0))", "tl.load(p, mask=m)"],
    ),
    "bound widened": (
        kernel("a = i < n", "a = i <= n", "a = i > n", "a = i >= n"),
        ["(i <= n)", "(i <= n + 1)", "(i >= n)", "(i >= n - 1)"],
    ),
    "bound narrowed": (
        kernel("a = i < n", "a = i <= n", "a = i > n", "a = i >= n"),
        ["(i < n - 1)", "(i < n)", "(i > n + 1)", "(i > n)"],
    ),
    "equality flipped": (kernel("a = i == n", "a = x_ptr is not None"), ["(i != n)", "(x_ptr is None)"]),
    "nan test disabled": (kernel("a = v != v", "a = v == v"), ["(v < v)", "((v == v) | (v != v))"]),
    "nan dropped": (
        kernel("a = tl.minimum(b, c, propagate_nan=tl.PropagateNan.ALL)"),
        ["tl.minimum(b, c)"],
    ),
    "sum changed": (kernel("a = b + c", "a = b - c"), ["(b - c)", "(b + c)"]),
    "term dropped": (kernel("a = b + c"), ["(b)", "(c)"]),
    "factor dropped": (kernel("a = b * c"), ["(b)", "(c)"]),
    "quotient and remainder exchanged": (kernel("a = b // c", "a = b % c"), ["(b % c)", "(b // c)"]),
    "tile count changed": (host("n = triton.cdiv(a, b)"), ["((a) // (b))", "(triton.cdiv(a, b) - 1)"]),
    "number changed": (kernel("a = b << 21"), ["(21 + 1)"]),
    "offset shifted": (kernel("v = tl.load(p + i)"), ["tl.load(((p + i) + 1))"]),
    "stride exchanged": (kernel("a = i * stride_h"), ["stride_w"]),
    "stride taken for contiguous": (
        host("a = x.stride(1)", "b = x.stride()"),
        ["x.contiguous().stride(1)", "x.contiguous().stride()"],
    ),
    "copy omitted": (host("x = x.contiguous()"), ["x"]),
    "dimension exchanged": (host("a = x.shape[2]", "b = x.stride(3)"), ["x.shape[3]", "x.stride(2)"]),
    "results exchanged": (kernel("a, b, c = f()", "return a, b"), ["(b, a, c)", "(a, c, b)", "(b, a)"]),
    "arguments exchanged": (
        host("kernel[(1,)](x, KH, KW, n)", 'return {"pad_h": 1, "pad_w": 2, "n": 3}'),
        ["kernel[(1,)](x, KW, KH, n)", '{"pad_h": 2, "pad_w": 1, "n": 3}'],
    ),
    "identity changed": (
        kernel('a = float("inf")', 'b = float("-inf")'),
        ["0.0", "1e30", 'float("-inf")', "0.0", "-1e30", 'float("inf")'],
    ),
    "minimum and maximum exchanged": (kernel("a = tl.min(v, axis=1)"), ["tl.max(v, axis=1)"]),
    "choice removed": (kernel("a = tl.where(m, b, c)"), ["(b)", "(c)"]),
    "dtype lowered": (kernel("a = tl.zeros([1], tl.float32)"), ["tl.float16"]),
    "conversion omitted": (kernel("a = b.to(tl.int64)", "tl.store(p, b.to(t))"), ["(b)"]),
    "precision lowered": (
        kernel("a = tl.dot(b, c, input_precision=P)"),
        ['tl.dot(b, c, input_precision=("tf32"))'],
    ),
    "loop changed": (
        kernel("for i in range(n):", "    pass"),
        ["range(0 + 1, n, 1)", "range(0, n - 1, 1)", "range(0, n, 2 * (1))"],
    ),
    "accumulation broken": (
        kernel("acc += a", "acc = tl.dot(b, c, acc)"),
        ["acc = a", "pass", "tl.dot(b, c)"],
    ),
    "start changed": (kernel("a = tl.zeros([1], t)"), ["(tl.zeros([1], t) + 1)"]),
    "allocated in another dtype": (
        host("out = x.new_empty([1], dtype=x.dtype)"),
        ["x.new_empty([1], dtype=torch.float16)"],
    ),
}


@pytest.mark.parametrize("operator", [name_of(operator) for operator in OPERATORS])
def test_an_operator_makes_what_it_says(operator: str) -> None:
    assert operator in MADE, f"give tests/fuzz/mutation an example of '{operator}'"
    source, made = MADE[operator]
    assert [mutant.after for mutant in mutants_of(source) if mutant.operator == operator] == made


def diff(original: str, changed: str) -> list[str]:
    """The lines that differ."""
    lines = difflib.unified_diff(original.splitlines(), changed.splitlines(), lineterm="", n=0)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]


@pytest.mark.parametrize("operator", MADE)
def test_a_mutant_is_one_change_that_parses(operator: str) -> None:
    source, _ = MADE[operator]
    for mutant in mutants_of(source):
        compile(mutant.text, mutant.name, "exec")
        assert mutant.text != source
        assert mutant.before in source
        assert mutant.after in mutant.text
        changed = diff(source, mutant.text)
        assert len(changed) == 2, f"{mutant.name} changes one line: {changed}"


def test_names_are_unique() -> None:
    names = [mutant.name for source, _ in MADE.values() for mutant in mutants_of(source)]
    per_source = [len(mutants_of(source)) for source, _ in MADE.values()]
    assert sum(per_source) == len(names)
    for source, _ in MADE.values():
        own = [mutant.name for mutant in mutants_of(source)]
        assert len(set(own)) == len(own)


@pytest.mark.parametrize(
    "source",
    [
        "BLOCK = 16 + 16\n",
        host('"""Return a + b."""'),
        host('raise ValueError(f"{a + b}")'),
        host("if x.shape[2] == 0:", '    raise ValueError("empty")'),
        host("assert a + b"),
        kernel("pass", parameters="x_ptr, n: 16 + 16"),
        "@wraps(a + b)\ndef launch():\n    pass\n",
    ],
)
def test_what_is_no_part_of_a_call_is_left_alone(source: str) -> None:
    assert mutants_of(source) == []


def test_text_outside_ascii_moves_nothing() -> None:
    (first, *_) = mutants_of("# Größe\n" + host("a = x.shape[2]  # → 3", "b = x.shape[3]"))
    assert "a = x.shape[3]  # → 3" in first.text
