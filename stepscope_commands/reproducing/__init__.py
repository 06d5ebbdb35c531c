"""The paper's experiments together: claims, plans, their programme, its making, and the page about it.

`claims` says what is tested, `plan` what is run for it (the TOML files beside it), `programme` turns a plan into runs
for a model, `making` makes them, and `telling` computes the results and writes the page.
"""
