"""Looking after a store: check it, clear it up, copy it, take arrays out of it. `stepscope store` calls these.

>>> import tempfile, store
>>> from store import maintenance
>>> maintenance.verify(store.open(tempfile.mkdtemp(), mode="a")).damages
()
"""

from store.maintenance.copying import Copied, copy
from store.maintenance.exporting import Exported, export
from store.maintenance.leftovers import Collected, Leftover, collect
from store.maintenance.probing import read_speed
from store.maintenance.verifying import Damage, Verified, verify

__all__ = [
    "Collected",
    "Copied",
    "Damage",
    "Exported",
    "Leftover",
    "Verified",
    "collect",
    "copy",
    "export",
    "read_speed",
    "verify",
]
