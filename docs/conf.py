"""Sphinx configuration: `make docs`, with warnings as errors and nothing fetched; the notebooks run while it builds."""

import os
import shutil
from importlib.metadata import version as installed
from pathlib import Path

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

project = "stepscope"
author = "The stepscope authors"
release = version = installed("stepscope")

# In docstrings, `this` is code, as in the Markdown pages.
default_role = "code"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_design", "cyclopts.ext.sphinx"]
exclude_patterns = ["_build", "results"]  # pages of their own, which go along as they are
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

# A cell that fails, fails the build. `-D nb_execution_mode=off` builds the words alone, in seconds.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_execution_in_temp = True
nb_merge_streams = True
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line sets it, for the notebooks' processes
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")

# What a package's __init__ exports is its public face; private modules are not documented.
autodoc_default_options = {"members": True, "imported-members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

html_math_renderer = "mathml"  # which browsers draw by themselves, without a network
html_theme = "pydata_sphinx_theme"
html_title = "stepscope"
html_show_sphinx = False
html_show_sourcelink = False
html_sidebars = {"index": [], "start": []}  # pages without a section of their own
html_static_path = ["_static"]
html_css_files = ["stepscope.css"]
html_theme_options = {
    "header_links_before_dropdown": 7,
    "navbar_end": ["theme-switcher"],
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": False,
    "show_toc_level": 2,
}

# The demo's report goes along where `make docs` finds one; the pages link to it then.
_report = Path(os.environ.get("DEMO_REPORT", "../demo/report.html"))
_report = _report if _report.is_absolute() else Path(__file__).parent / _report
if _report.is_file():
    tags.add("demo_report")  # noqa: F821  (Sphinx gives every configuration this name)


def setup(app):
    app.connect("build-finished", _take_along)
    app.add_html_math_renderer("mathml", (_formula, None), (_formula, None))


def _take_along(app, error):
    if error is not None or app.builder.format != "html":
        return
    if _report.is_file():
        (Path(app.outdir) / "demo-report.html").write_bytes(_report.read_bytes())
    shutil.copytree(Path(__file__).parent / "results", Path(app.outdir) / "results", dirs_exist_ok=True)


def _formula(translator, node):
    translator.body.append(tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block)))
    raise nodes.SkipNode
