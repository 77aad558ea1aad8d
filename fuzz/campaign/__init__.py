"""Overnight work: draw, try in an isolated process, shrink, tell bugs apart, keep."""
