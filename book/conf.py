"""How Sphinx builds the book from the folder that `somlib.companion.book` has put together."""

import re
from pathlib import Path

import somlib

project = "somlib"
author = "The somlib authors"
release = somlib.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_togglebutton",
    "sphinxcontrib.bibtex",
]
exclude_patterns = ["downloads/**", "figures/**"]
suppress_warnings = ["toc.empty_glob"]  # the teaching kit may be absent
numfig = True
default_role = "py:obj"  # `name` in a docstring leads there, if it is documented

# pages: notebooks come executed, and no script is asked of another machine
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"
myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
mathjax3_config = {  # only what formulas need: a page that has some loads half as much
    "loader": {"load": ["core", "input/tex", "output/chtml", "a11y/assistive-mml"]},
}
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "alpha"

# the reference
autosummary_generate = True
autosummary_imported_members = True
autodoc_typehints = "none"  # the sections "Parameters" have them
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
templates_path = ["_templates"]

html_theme = "pydata_sphinx_theme"
html_title = "somlib"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_show_sourcelink = False
html_copy_source = False
html_show_search_summary = False  # it would fetch pages, which files do not allow
html_theme_options = {
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "use_edit_page_button": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
copybutton_exclude = ".linenos, .gp, .go"
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True


def plain(app, what, name, thing, options, lines):
    """Keep reStructuredText from reading |x| and n_nodes_ in a docstring as its own signs."""
    in_code = re.compile(r"(``.*?``|`[^`]*`)")
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...", "..")):
            parts = in_code.split(line)
            parts[::2] = [
                re.sub(r"(?<!\\)\||(?<=\w)(?<!\\)_(?=[\s,.;:)\]]|$)", r"\\\g<0>", part)
                for part in parts[::2]
            ]
            lines[number] = re.sub(r"(?<=\w`)(?=[²³₁₂])", r"\\ ", "".join(parts))


def foreign(app, what, name, thing, skip, options):
    """Leave out what a class inherits from scikit-learn, PyTorch or Python; None: no opinion."""
    owners = (thing, getattr(thing, "fget", None), getattr(thing, "__objclass__", None))
    module = next(filter(None, (getattr(owner, "__module__", None) for owner in owners)), "somlib")
    made_by_sklearn = re.fullmatch(r"set_\w+_request", name)
    return True if made_by_sklearn or not module.startswith("somlib") else None


def accessible(app, pagename, templatename, context, doctree):
    """Drop roles by which docutils calls a bibliography a list without items."""
    for role in (' role="list" class="citation-list"', ' role="doc-biblioentry"'):
        if "body" in context:
            kept = role.partition('" ')[2]
            context["body"] = context["body"].replace(role, f" {kept}" if kept else "")


def named(app, exception):
    """Name the theme's buttons that unfold a list of pages, for readers who do not see them."""
    for page in [] if exception else Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        button = '<summary><span class="toctree-toggle"'
        if button in text:
            label = button.replace("<summary>", '<summary aria-label="Pages below this one">')
            page.write_text(text.replace(button, label), encoding="utf-8")


def setup(app):
    """Connect the above, after numpydoc; let files be read side by side, as MathJax's are."""
    app.config.mathjax_path = "mathjax/startup.js"  # the extension says tex-chtml.js
    app.connect("autodoc-skip-member", foreign)
    app.connect("html-page-context", accessible)
    app.connect("build-finished", named)
    app.connect("autodoc-process-docstring", plain, priority=900)
    app.extensions["sphinx-mathjax-offline"].parallel_read_safe = True
    app.extensions["sphinx-mathjax-offline"].parallel_write_safe = True
