from __future__ import annotations

import pytest

from optkit.data.columns import column
from optkit.errors import DataError


def test_a_wrong_column_gets_the_nearest_name():
    with pytest.raises(DataError, match="received the columns text, label") as raised:
        column(["text", "label"], "txt", (), "text", "--text-column")
    assert raised.value.hint == "Did you mean 'text'?"
