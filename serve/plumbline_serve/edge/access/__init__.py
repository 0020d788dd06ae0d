"""Who may call, and how much: API keys hashed in a file, their scopes and their quotas."""

from plumbline_serve.edge.access.access import NO_KEY, Access, Grant, num_items_of
from plumbline_serve.edge.access.keys_file import Scope, read_keys
from plumbline_serve.edge.access.quotas import answers

__all__ = ["NO_KEY", "Access", "Grant", "Scope", "answers", "num_items_of", "read_keys"]
