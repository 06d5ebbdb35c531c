"""Options of analyses: what is handed on, and in which shape."""

from __future__ import annotations

import numpy as np
import pytest

import analyses
from tests.planted import Planted
from tests.planted_tokens import PlantedTokens
from tests.test_cli import refused


def test_numbers_of_numpy_are_plain_numbers(tmp_path):
    acts = PlantedTokens(arrays=("resid_post/project",), layers=2, bright=()).plant(tmp_path / "acts")
    plain = analyses.token_pca(acts, layers=[0, 1], seed=3)
    assert analyses.token_pca(acts, layers=np.arange(2), seed=np.int64(3)).id == plain.id


def test_a_number_that_cannot_be_is_one_line_of_the_command(tmp_path, capsys: pytest.CaptureFixture[str]):
    Planted().plant(tmp_path / "acts")
    said = refused(capsys, "analyze", "probes", "--store", tmp_path / "acts", "--set", "folds=2")
    assert "probes cannot take folds=2: input should be greater than or equal to 3" in said
