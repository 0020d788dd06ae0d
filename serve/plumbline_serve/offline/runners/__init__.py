"""Where rows are scored: in this process, by a server, or on a Ray cluster."""
