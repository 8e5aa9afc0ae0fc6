"""Hydra's errors in a sentence."""

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException

from eosvos.config.explain import explain
from eosvos.config.help import CONF
from eosvos.config.schema import register


@pytest.mark.parametrize(
    ("override", "reason"), [("hydra.run.dir=null", "not Optional"), ("hydra.mode=nope", "expected one of")]
)
def test_a_value_that_hydra_cannot_take_is_said_with_the_reason(override, reason):
    register()
    with (
        initialize_config_dir(str(CONF), version_base="1.3"),
        pytest.raises(ConfigCompositionException) as caught,
    ):
        compose("train", overrides=[override], return_hydra_config=True)
    said = explain(caught.value)
    assert override in said
    assert reason in said
