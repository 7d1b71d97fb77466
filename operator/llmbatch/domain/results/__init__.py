"""Result lines coming home: counts, usage and cost."""
