"""Sites: where in a run values are read. One file each."""

from __future__ import annotations

from interp.registry import Registry
from interp.sites._base import LayerSite, Site, StepSite, StepValues

sites: Registry[Site] = Registry(kind="site", package=__name__)

__all__ = ["LayerSite", "Site", "StepSite", "StepValues", "sites"]
