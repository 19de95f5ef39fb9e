"""Import the objects that a setting or an option names as ``package.module:attribute``."""

import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from escalation_core import EscalationError, InvalidValue
from escalation_core.errors import error_place
from escalation_core.settings.limits import names_attribute


def find_object(name: str) -> object:
    """Import the module before the colon, and return its attribute behind it. The attribute may have dots.

    Raises:
        InvalidValue: the module does not exist or cannot be imported, or it has no such attribute. Of another
            library's error the message has the class and the place, and no text: that may contain a secret.
    """
    module, _, attribute = name.partition(":")
    if not names_attribute(name):
        raise InvalidValue(name, "does not name an attribute of a module", "write package.module:attribute")
    found = _imported(name, module)
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise InvalidValue(name, f"the module {module} has no {attribute!r}", "correct the name") from None
        except Exception as error:  # noqa: BLE001 - a module's own __getattr__ may raise anything
            raise _refusal(name, f"reading {attribute!r} raised {error_place(error)}", module) from None
    return found


def add_working_directory() -> None:
    """Put the working directory last on the path of imports. In a program it is missing there.

    It stays, because a module of a service may import others of its folder later. It is last, so that a file such as
    ``json.py`` in the folder is never imported in place of Python's module or an installed one.
    """
    with suppress(OSError):  # the directory is gone
        here = str(Path.cwd())
        if not {"", here} & set(sys.path):
            sys.path.append(here)


def _imported(name: str, module: str) -> object:
    try:
        return import_module(module)
    except EscalationError as error:  # also MissingExtra: its text has the command
        raise InvalidValue(name, f"the module {module} cannot be imported ({error})", "repair it") from None
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if f"{module}.".startswith(f"{missing}."):
            remedy = "correct the name, install its package, or start in the folder of the module"
            raise InvalidValue(name, f"the module {missing} does not exist", remedy) from None
        raise InvalidValue(name, f"the module {module} needs {missing}, which is missing", "install it") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - another library's module may raise anything, also SystemExit
        raise _refusal(name, f"importing {module} raised {error_place(error)}", module) from None


def _refusal(name: str, fault: str, module: str) -> InvalidValue:
    return InvalidValue(name, fault, f'repair it; python -c "import {module}" shows the whole error')
