"""The command line. No other part of the library reads settings from the environment by itself."""

from ..extras import require

require(__name__, "cli")
