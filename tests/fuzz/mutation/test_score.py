"""A score says the truth: what is seen is killed, what cannot be seen survives; a kernel that is wrong gets none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from planted import TILED, plant

from fuzz.abilities import Abilities
from fuzz.campaign.isolation import UsageError
from fuzz.case import Case
from fuzz.mutation.catalogue import bugs_of
from fuzz.mutation.equivalents import Equivalent, built_in_equivalents, read_equivalents
from fuzz.mutation.matrix import row
from fuzz.mutation.mutant import Mutant, mutants_of
from fuzz.mutation.record import KernelScore, Record, read_record, write_record
from fuzz.mutation.score import Result, Score
from fuzz.mutation.selection import every_mutant, named, reached, sample
from fuzz.mutation.subject import Subject, subject_of
from fuzz.mutation.trials import WrongByItselfError, drawn
from fuzz.report.mutants import mutants_text
from fuzz.target import load_target

# What the fast path alone runs: too many of its mutants are told by one case in hundreds to be held to so few here.
FAST_PATH = {
    *("strip_kernel", "strip_store", "ring_load", "ring_store", "partial_kernel", "finish_kernel", "vouched"),
    *("pack_kernel", "pack_weight", "largest_bits", "weight_channels", "pack_input", "half_or_nan", "rest_of_half"),
    *("mend_kernel", "mend_tile", "smaller_or_nan", "packing", "strips_plan", "split_plan", "strip_sizes"),
    *("half_layout", "half_type", "has_one_factor", "lies_well", "window_of", "window_left", "strip_block_k"),
    *("guard_limit", "fast_configs", "gathers", "packed_bounds", "ring_chunk_width", "split_count"),
    *(
        "largest_limit",
        "flat_kernel",
        "reciprocal",
        "quotient",
        "channel_sizes",
        "flat_plan",
        "flat_tiles",
        "takes_flat",
        "suits_flat",
        "lies_in_a_row",
    ),
}
CORPUS = [Case(), Case(n=2, c_in=3, h=5, w=6, c_out=4, kh=3, kw=3, bias=True, values="gaussian", scale=-2.0)]


def change(subject: Subject, before: str, after: str, name: str = "function/change/1") -> Mutant:
    assert subject.text.count(before) == 1, f"{subject.path} has changed: {before!r} is not in it once"
    line = subject.text[: subject.text.index(before)].count("\n") + 1
    return Mutant(name, "function", "change", line, before, after, subject.text.replace(before, after))


def score(
    subject: Subject, *mutants: Mutant, max_cases: int = 40, equivalents: list[Equivalent] | None = None
) -> list[Result]:
    with Score(subject, max_cases, 0, 2, equivalents or [], CORPUS) as scoring:
        results = {result.name: result for result in scoring.results(mutants)}
    return [results[mutant.name] for mutant in mutants]


@pytest.fixture(scope="module")
def tiled() -> Subject:
    return subject_of(str(TILED))


def test_what_became_of_each_mutant(tiled: Subject) -> None:
    killed, same, syntax, broken = score(
        tiled,
        change(tiled, 'value, float("inf")', "value, 0.0", "a/killed/1"),
        change(tiled, "import torch\n", "import torch\n\n", "a/same/1"),
        change(tiled, "import torch\n", "import torch, no_such_module\n", "a/syntax/1"),
        change(tiled, "@triton.jit\n", "@triton.jit\n@no_such_decorator\n", "a/broken/1"),
    )
    assert killed.status == "killed", killed
    assert killed.lane in killed.lanes
    assert 1 <= killed.cases <= 40
    assert killed.case, "the case that killed it is kept"
    assert same.status == "survived"
    assert same.cases == 40
    assert syntax.status == "broken"
    assert "no_such_module" in syntax.message
    assert broken.status == "broken"


def test_a_mutant_that_raises_for_every_call_does_not_run(tiled: Subject) -> None:
    (result,) = score(tiled, change(tiled, 'value, float("inf")', "value, no_such_name"))
    assert (result.status, result.lane) == ("broken", "errors")


def test_a_kernel_that_is_wrong_by_itself_gets_no_score(tmp_path: Path) -> None:
    flawed = subject_of(str(plant("minimum_before_scale", tmp_path)))
    with pytest.raises(WrongByItselfError, match="fails by itself"):
        score(flawed, change(flawed, "import torch\n", "import torch\n\n"), max_cases=200)


def test_a_listed_mutant_that_survives_is_the_same_only_if_its_bits_are(tiled: Subject) -> None:
    same = change(tiled, "import torch\n", "import torch\n\n")
    listed = Equivalent(
        function="function", operator="change", before="import torch", after="import torch", why="a blank line"
    )
    (result,) = score(tiled, same, max_cases=2, equivalents=[listed])
    assert (result.status, result.message) == ("equivalent", "a blank line")


def test_a_listed_mutant_with_other_bits_survives(tiled: Subject) -> None:
    # Within the bound of any sum, but not the same bits.
    before = "value = (acc + bias[None, :]) * scale"
    after = f"{before} * tl.where(C_IN > 1, 1.0000001, 1.0)"
    listed = Equivalent(function="function", operator="change", before=before, after=after, why="wrongly")
    (result,) = score(tiled, change(tiled, before, after), max_cases=1, equivalents=[listed])
    assert result.status == "survived"
    assert "listed as equivalent, but not for Case" in result.message


def test_a_case_that_does_not_come_to_a_change_is_not_tried(tiled: Subject) -> None:
    for_no_position = change(tiled, "            return out\n", "            return x\n")
    anywhere = change(tiled, "import torch\n", "import torch\n\n")
    # What a seed draws changes with any constant of this project's: Hypothesis draws those as well.
    abilities = load_target(tiled.target).abilities
    seed = next(seed for seed in range(100) if any(case.n == 0 for case in drawn(abilities, seed, 60)))
    with Score(tiled, 60, seed, 2) as scoring:
        (result,) = scoring.results([for_no_position])
        every, some = list(scoring._trials_of(anywhere)), list(scoring._trials_of(for_no_position))
    empty = [trial for trial in every if trial.case.n == 0]
    assert len(every) == 60
    assert [trial for trial in some if not trial.case.earlier] == [trial for trial in empty if not trial.case.earlier]
    assert (result.status, result.cases) == ("killed", empty[0].place), "only an empty batch comes to that line"


def test_the_same_cases_are_drawn_for_a_seed(tiled: Subject) -> None:
    abilities = Abilities(kind="function")
    assert drawn(abilities, 3, 60) == drawn(abilities, 3, 60) != drawn(abilities, 4, 60)
    assert len(set(drawn(abilities, 3, 60))) == 60


def test_parts_that_no_trial_comes_to_are_named() -> None:
    subject = subject_of("fused")
    with Score(subject, 50, 0, 2) as scoring:
        unreached = scoring.unreached()
    functions = {statement.function for statement in unreached}
    assert {"gradients", "save_inputs"} <= functions, "nothing asks for gradients"
    left = reached(mutants_of(subject.text), unreached)
    assert {mutant.function for mutant in left}.isdisjoint({"gradients", "save_inputs"})
    assert "scaled_conv_tile" in {mutant.function for mutant in left}


# The kernels of this repository.


@pytest.mark.parametrize("name", ["fused", "two-pass"])
def test_every_mutant_parses_and_has_a_name_of_its_own(name: str) -> None:
    mutants = every_mutant(subject_of(name))
    assert len({mutant.name for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        compile(mutant.text, mutant.name, "exec")


def test_every_listed_equivalent_is_of_a_mutant() -> None:
    mutants = [mutant for target in ("fused", "two-pass") for mutant in every_mutant(subject_of(target))]
    for listed in built_in_equivalents():
        assert any(listed.is_of(mutant) for mutant in mutants), (
            f"{listed} is of no mutant: the kernel has changed, so look at it again, or drop it from equivalents.json"
        )
        assert listed.why


def test_a_catalogue_that_no_longer_fits_says_which_bug() -> None:
    subject = subject_of("fused")
    with pytest.raises(ValueError, match="catalogue bug bias after scale"):
        bugs_of("fused", "conv_scale_min.py", subject.text.replace("acc += bias", "acc = acc + bias"))


@pytest.mark.slow
def test_a_sample_of_mutants_is_killed() -> None:
    """The whole takes hours: `tox run -e mutants`."""
    equivalents = built_in_equivalents()
    for target, count in (("fused", 16), ("two-pass", 6)):
        subject = subject_of(target)
        with Score(subject, 500, 0, 2, equivalents, CORPUS) as scoring:
            mutants = [mutant for mutant in every_mutant(subject) if mutant.function not in FAST_PATH]
            chosen = reached(sample(mutants, count, 1), scoring.unreached())
            results = list(scoring.results(chosen))
        survived = [result for result in results if result.status == "survived"]
        assert not survived, (
            f"{[result.name for result in survived]} survived: is it a hole in the strategies or the oracle? If it "
            "computes the same, say why in fuzz/mutation/equivalents.json"
        )


# Choosing, keeping, showing.


def mutant(name: str) -> Mutant:
    return Mutant(name, name.partition("/")[0], "change", 1, "a", "b", "b")


def test_mutants_are_asked_for_by_name() -> None:
    mutants = [mutant(name) for name in ("a/x/1", "a/x/10", "b/x/1")]
    assert named(mutants, ()) == mutants
    assert named(mutants, ("b/",)) == mutants[2:]
    assert named(mutants, ("a/x/10", "b")) == mutants[1:]


def test_a_sample_is_the_same_for_a_seed() -> None:
    everything = list(range(100))
    assert sample(everything, 10, 1) == sample(everything, 10, 1) != sample(everything, 10, 2)
    assert sample(everything, 10, 1) == sorted(sample(everything, 10, 1))
    assert sample(everything, 1000, 1) == everything


@pytest.mark.parametrize(
    ("text", "words"),
    [("[{}]", "function"), ("[", "truncated"), ('[{"function": 1}]', "function"), (None, "No such file")],
)
def test_a_bad_list_of_equivalents_is_one_line(text: str | None, words: str, tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=words) as raised:
        read_equivalents(file)
    assert "\n" not in str(raised.value)


RESULTS = (
    Result(
        name="f/o/1",
        operator="o",
        line=1,
        before="a",
        after="b",
        status="killed",
        lane="exact",
        lanes=("exact",),
        cases=1,
    ),
    Result(
        name="f/o/2",
        operator="o",
        line=1,
        before="a",
        after="c",
        status="killed",
        lane="access",
        lanes=("access", "exact"),
        cases=9,
    ),
    Result(
        name="f/o/3",
        operator="o",
        line=1,
        before="a",
        after="d",
        status="timed out",
        lane="process",
        lanes=("process",),
        cases=100,
    ),
    Result(name="f/o/4", operator="o", line=1, before="a", after="e", status="survived", cases=300),
    Result(
        name="f/p/1",
        operator="p",
        line=2,
        before="a",
        after="f",
        status="equivalent",
        cases=300,
        message="it is masked",
    ),
    Result(
        name="f/p/2",
        operator="p",
        line=2,
        before="a",
        after="g",
        status="broken",
        lane="errors",
        lanes=("errors",),
        cases=1,
    ),
)


def test_a_row_counts_by_lane() -> None:
    total = row("all", RESULTS)
    assert (total.made, total.broken, total.killed, total.equivalent, total.survived) == (6, 1, 3, 1, 1)
    assert (total.median, total.most) == (9, 100)
    assert {lane: count for lane, count in total.first.items() if count} == {"exact": 1, "access": 1, "process": 1}
    assert total.seen["exact"] == 2
    assert {lane: count for lane, count in total.alone.items() if count} == {"exact": 1, "process": 1}
    assert row("none", ()).most == 0


def test_a_record_is_read_back_and_shown(tmp_path: Path) -> None:
    kernel = KernelScore(target="fused", file="conv_scale_min.py", unreached=("gradients",), results=RESULTS)
    record = Record(circumstances={}, seed=0, max_cases=300, jobs=2, seconds=math.pi, kernels=(kernel,))
    file = tmp_path / "mutants.json"
    file.write_text(write_record(record))
    assert read_record(file) == record
    text = mutants_text(record)
    for words in ("3 of 4 mutants killed (75.0 %)", "f/o/4", "it is masked", "gradients", "95 % within 100"):
        assert words in text
