"""What a run shows in a notebook: texts, figures and pictures. Elsewhere nothing is shown."""

import base64
import sys
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure


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
