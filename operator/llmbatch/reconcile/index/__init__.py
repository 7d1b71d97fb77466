"""What the operator remembers, and who is woken by whose change."""
