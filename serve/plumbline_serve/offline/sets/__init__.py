"""How diverse the images of a run are, as one set and by groups: within bounded memory, however many there are."""

from plumbline_serve.offline.sets.kept_members import MAX_GROUPS, KeptMembers
from plumbline_serve.offline.sets.values import SetOptions, SetsDocument, SetValues, measured_sets

__all__ = ["MAX_GROUPS", "KeptMembers", "SetOptions", "SetValues", "SetsDocument", "measured_sets"]
