"""The paper's tables, made again by one call. What is trained and compared stands in `tables/*.toml`."""

from __future__ import annotations

from fmfbench_models.reproduce.campaign import ALL_SEEDS as ALL_SEEDS
from fmfbench_models.reproduce.campaign import Campaign as Campaign
from fmfbench_models.reproduce.experiment import TABLES as TABLES
from fmfbench_models.reproduce.experiment import preset_names as preset_names
from fmfbench_models.reproduce.table import Reproduction as Reproduction
from fmfbench_models.reproduce.table import plan as plan
from fmfbench_models.reproduce.table import reproduce as reproduce

__all__ = ["ALL_SEEDS", "TABLES", "Campaign", "Reproduction", "plan", "preset_names", "reproduce"]
