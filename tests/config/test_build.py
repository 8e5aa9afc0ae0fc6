"""What is built by a `_target_`."""

from collections import OrderedDict

import pytest

from eosvos.config.build import build_a
from eosvos.errors import UserError


def test_what_is_built_is_of_the_kind_that_belongs_there():
    assert build_a(dict, {"_target_": "collections.OrderedDict", "a": 1}) == OrderedDict(a=1)
    with pytest.raises(UserError, match=r"os\.getcwd must make a dict, not str"):
        build_a(dict, {"_target_": "os.getcwd"})
