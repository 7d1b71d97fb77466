"""HTTP as all providers use it: bounded calls, pauses, uploads, and the guard of addresses."""
