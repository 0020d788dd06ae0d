"""Arrays, errors and protocols that every other part shares; no framework is imported here."""
