"""Plugins that teach pytest to try properties on many cores and machines."""
