"""The performance gate: what a compiler made of a kernel, and how long it takes."""
