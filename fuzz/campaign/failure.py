"""A bug as a hunt keeps it."""

from __future__ import annotations

import hashlib

import msgspec

from fuzz.campaign.buckets import Bucket


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """One bug that a hunt found, as `summary.json` lists it.

    Attributes:
        id: Derived from the bucket: the same defect found twice is one failure.
        bucket: How the failure shows, and what it depends on.
        message: The verdict on the shrunk case.
        case_file: Path of the shrunk case, from the hunt's folder.
        cases_to_find: How many cases had run when it was first seen.
        seconds_to_find: How long the hunt had run by then.
        hits: How many cases showed it, that one and those of its corpus included.
        waived: Link of the issue for which the ledger waives it; empty if it counts.
        earlier_ids: Under which ids it was kept before a simpler form of it was seen.
    """

    id: str
    bucket: str
    message: str
    case_file: str
    cases_to_find: int
    seconds_to_find: float
    hits: int = 1
    waived: str = ""
    earlier_ids: tuple[str, ...] = ()


class KeptFailure(msgspec.Struct, frozen=True, kw_only=True):
    """What a failure's folder says of it, in `failure.json`: enough to know the bug again."""

    failure: Failure
    bucket: Bucket


def failure_id(bucket: str) -> str:
    """Return the name of a bucket's folder."""
    return hashlib.sha256(bucket.encode()).hexdigest()[:6]
