"""Deep clustering and maps to compare with; see `somlib.models.baselines`."""

from somlib.models.baselines import *  # noqa: F403
from somlib.models.baselines import __all__ as __all__
