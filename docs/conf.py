"""Sphinx configuration: `make docs`, with warnings as errors and nothing fetched."""

from importlib.metadata import version as installed

project = "stepscope"
author = "The stepscope authors"
release = version = installed("stepscope")

# In docstrings, `this` is code, as in the Markdown pages.
default_role = "code"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# What a package's __init__ exports is its public face; private modules are not documented.
autodoc_default_options = {"members": True, "imported-members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "stepscope"
html_show_sphinx = False
