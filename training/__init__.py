"""Training of the bundled models: `python -m training --help`. Not part of the installed package."""
