"""``kubectl llmbatch``: files submitted, jobs watched and results fetched, by a person at a terminal or by a script."""
