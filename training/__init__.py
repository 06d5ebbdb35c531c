"""Training of the bundled `tinywan`: `python -m training --help`. Not part of the installed package."""
