"""Providers: a module each behind small protocols, and one table that names them."""
