"""Parse YAML in which every scalar is text: YAML 1.1 reads ``10:00`` as 600, and ``no`` as false."""

from typing import Any

from escalation_core import InvalidValue
from escalation_core.rules.policies_values import shown

from ..extras import needs

with needs("escalation_adapters.policies_file.yaml_text", "yaml"):
    import yaml

_PLAIN_TAGS = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")


class _TextLoader(yaml.BaseLoader):
    """Gives every scalar as text. It refuses tags, and names that occur twice.

    An alias gives the object of its anchor again, so that nested aliases take no space. The limits on the number of
    values and on their depth apply to what the file means, with each alias in full.
    """

    # PyYAML's parser in C is not used: a text that is nested too deep ends the process.

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node; refuse one with a tag of its own."""
        node = super().compose_node(parent, index)
        if node is not None and node.tag not in _PLAIN_TAGS:
            raise _fault(node, "a value has a tag", "leave out the tag, which begins with !")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Return a mapping whose names are text, each once."""
        found: dict[Any, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _fault(key, "a name is a list or a mapping", "write names as text")
            if key.value in found:
                raise _fault(key, f"{shown(key.value)} occurs twice", "write it once")
            found[key.value] = self.construct_object(value, deep=deep)
        return found


def parse_yaml(text: str) -> object:
    """Return the value of a YAML text with one document.

    Raises:
        InvalidValue: the text is not valid. The fault names the line.
    """
    loader: _TextLoader | None = None
    try:
        loader = _TextLoader(text)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f"line {mark.line + 1}: "
        raise InvalidValue("file", f"is not valid YAML: {where}{error.problem}", "correct the line") from None
    except yaml.YAMLError:
        raise InvalidValue("file", "holds a character that YAML does not allow", "leave it out") from None
    except RecursionError:
        raise InvalidValue("file", "is nested too deep", "nest less") from None
    except InvalidValue:
        raise
    except (ValueError, OverflowError):  # the parser's own, for an escape or a version beyond all bounds
        raise InvalidValue("file", "is not valid YAML: a number in it is too large", "write a smaller one") from None
    finally:
        if loader is not None:
            loader.dispose()


def _fault(node: yaml.Node, fault: str, remedy: str) -> InvalidValue:
    return InvalidValue("file", f"line {node.start_mark.line + 1}: {fault}", remedy)
