"""Other programs that are measured beside ours: servers, and straightforward implementations."""
