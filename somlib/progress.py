"""One progress bar for the whole package."""

import sys
from typing import Any

from tqdm import tqdm


def progress_bar(total: int, description: str, enabled: bool = True, **options: Any) -> Any:
    """Return a plain text bar over `total` steps.

    A notebook run by papermill stores every redraw as a line of output, so away from a terminal
    the bar redraws every five seconds at most; the widget bar is not used because it writes
    widget state into the notebook's file.

    Parameters
    ----------
    total : int
        Number of steps.
    description : str
        What is being counted; stands before the bar.
    enabled : bool, default=True
        False gives a bar that prints nothing.
    **options
        Passed on to tqdm (`unit`, `unit_scale`, `initial`, ...).

    Returns
    -------
    tqdm.tqdm
        To be used as a context manager; call `.update()` per step.

    Examples
    --------
    >>> with progress_bar(3, "counting", enabled=False) as bar:
    ...     for _ in range(3):
    ...         _ = bar.update()
    """
    watched = sys.stderr.isatty()
    options.setdefault("mininterval", 0.1 if watched else 5.0)
    return tqdm(total=total, desc=description, disable=not enabled, leave=watched, **options)
