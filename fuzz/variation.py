"""A strategy that draws the neighbours of cases that reached something: what lies next to the new is often new, too."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from fuzz.abilities import Abilities
from fuzz.call_sizes import MOST_TILES, tiles_of
from fuzz.case import Case, Dtype, Precision
from fuzz.layout import CONTIGUOUS, CaseError

# Fields that mean something together, which one parent gives as a whole.
_PARTS: Final = (
    ("n",),
    ("h", "w"),
    ("c_in", "groups"),
    ("c_out",),
    ("kh", "kw"),
    ("stride", "padding", "same", "dilation"),
    ("bias", "scale"),
    ("dtype", "precision"),
    ("config",),
    ("x_layout",),
    ("weight_layout", "bias_layout"),
    ("values", "specials"),
    ("earlier", "relation"),
)
_SIZES: Final = ("n", "c_in", "h", "w", "c_out")
_STEPS: Final = (1, -1, 16, -16)


@st.composite
def neighbours(
    draw: st.DrawFn,
    models: tuple[Case, ...],
    drawn: st.SearchStrategy[Case],
    abilities: Abilities,
    *,
    dtypes: tuple[Dtype, ...] | None = None,
    precisions: tuple[Precision, ...] | None = None,
    effort: float = 1.0,
) -> Case:
    """Draw a case like one of the models: some of its parts, or one of its sizes, are another's.

    Args:
        draw: Given by Hypothesis.
        models: Cases that reached something.
        drawn: Draws cases, which give the other parts; one of them is returned where the two do not go together.
        abilities: What the target can be asked.
        dtypes: Which dtypes to try; what the target promises if None.
        precisions: Likewise.
        effort: Factor on the size of a call, as for `cases`: sizes of several parents multiply.
    """
    model, other = draw(st.sampled_from(models)), draw(drawn)
    mate = draw(st.sampled_from((other, *models)))
    taken = draw(st.sets(st.sampled_from(_PARTS), min_size=1, max_size=4))
    changes: dict[str, Any] = {name: getattr(mate, name) for part in taken for name in part}
    size, step = draw(st.sampled_from((None, *_SIZES))), draw(st.sampled_from(_STEPS))
    if size is not None:
        changes[size] = max(1, changes.get(size, getattr(model, size)) + step)
    if not changes.get("bias", model.bias):
        changes["bias_layout"] = CONTIGUOUS
    if changes.get("config", model.config) not in (None, *abilities.configs):
        changes["config"] = other.config  # the model was another target's
    try:
        case = msgspec.structs.replace(model, **changes, seed=other.seed)
    except CaseError:
        return other
    most = max(effort * MOST_TILES, tiles_of(model))
    return case if abilities.promises(case, dtypes, precisions) and tiles_of(case) <= most else other
