"""BatchJobs: from a job's creation to its end."""
