"""Verdicts and records → what a person reads. Nothing here decides anything."""
