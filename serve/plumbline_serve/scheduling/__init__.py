"""How the work of requests shares threads: units, lanes, tenants, deadlines."""
