"""The life of a job: what happens to it next, what is on record of it, and what its status says."""
