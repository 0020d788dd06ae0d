"""YAML whose mappings have each key once: PyYAML keeps the last of two, and says nothing of the first."""

from typing import Any

import yaml
from yaml.constructor import ConstructorError

_MERGE = "tag:yaml.org,2002:merge"  # `<<`, whose keys may be set anew


class _UniqueLoader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if key.value in seen:
                    raise ConstructorError(None, None, f"the key {key.value!r} stands there twice", key.start_mark)
                seen.add(key.value)
        return node


def load_yaml(text: str) -> Any:
    """What YAML holds, of plain kinds.

    Args:
        text: One document.

    Raises:
        yaml.YAMLError: It is none, or a mapping has a key twice.
        ValueError: A value is of no kind that there is.
    """
    return yaml.load(text, _UniqueLoader)  # nosec B506  # noqa: S506 - a safe one
