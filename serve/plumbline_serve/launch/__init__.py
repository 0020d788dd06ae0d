"""`plumbline serve`: the service on a Ray cluster of this machine alone, and the process that watches over it."""
