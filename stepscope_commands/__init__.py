"""The commands: `stepscope WORD …` is in `WORD.py`; files with an underscore hold what several of them share.

Importing any of these files loads none of the four layers and no heavy library: a command imports them when it runs,
so that help answers at once. The package has a name of its own, unlike the layers: a package that shadows one of ours
must not shadow `doctor`, which says so.
"""
