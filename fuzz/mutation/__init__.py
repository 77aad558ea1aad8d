"""Mutants of a kernel's source, and the score that they give the suite."""
