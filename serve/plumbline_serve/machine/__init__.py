"""What the service asks of its machine: ports, processes, files of secrets, and Ray's token."""
