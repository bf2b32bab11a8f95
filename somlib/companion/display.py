"""What a run shows in a notebook: texts, figures and pictures. Elsewhere nothing is shown."""

import base64
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from somlib.companion import pictures


def _shell() -> Any:
    """Return the IPython shell that runs this, or None outside a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def cell_number() -> int | None:
    """Return the number of the running cell, None outside a notebook."""
    shell = _shell()
    return int(shell.execution_count) if shell else None


def show(text: str) -> None:
    """Show a text in Markdown, in a notebook only."""
    if shell := _shell():
        shell.display_pub.publish({"text/markdown": text, "text/plain": text})


def lay_out_once() -> None:
    """Let a notebook show figures by `pictures`, which `Run.save_figure` also uses.

    Their formats remain those of the user. A figure that is saved in the cell after the one that
    has drawn it is then laid out once for both.
    """
    shell = _shell()
    if not shell or "inline" not in matplotlib.get_backend():
        return
    import matplotlib.pyplot as plt

    plt.switch_backend(matplotlib.get_backend())  # registers its formatters for figures
    plt.uninstall_repl_displayhook()  # which draws at the end of a cell, for figures in windows
    for formatter in shell.display_formatter.formatters.values():
        shown = formatter.type_printers.get(Figure)
        if isinstance(shown, partial) and shown.func is not _laid_out:  # not yet
            formatter.for_type(Figure, partial(_laid_out, shown))


def _laid_out(picture: Callable[..., Any], fig: Figure) -> Any:
    """Return the picture of a figure, by a formatter of IPython."""
    with pictures.laid_out(fig) as box:
        return picture(fig, bbox_inches=pictures.framed(box))


def show_drawn(fig: Figure) -> None:
    """Show a figure now that would otherwise be shown at the end of the cell, below its caption."""
    manager = getattr(fig.canvas, "manager", None)
    if _shell() and manager is not None and "inline" in matplotlib.get_backend():
        import matplotlib.pyplot as plt

        if plt.fignum_exists(manager.num):
            plt.show()


def show_html(fragment: str, alt: str) -> None:
    """Show a fragment of HTML, or where that is not possible its text, in a notebook only."""
    if shell := _shell():
        shell.display_pub.publish({"text/html": fragment, "text/plain": alt})


def show_picture(path: Path, alt: str) -> None:
    """Show a PNG file with its text description, in a notebook only."""
    if shell := _shell():
        picture = base64.b64encode(path.read_bytes()).decode("ascii")
        shell.display_pub.publish(
            {"image/png": picture, "text/plain": alt}, metadata={"image/png": {"alt": alt}}
        )
