import pytest
from pydantic import Field

from atts_core.errors import BadInput
from atts_core.settings import Method, Strict, validated


class Outer(Strict):
    method: Method = Field(default_factory=Method)
    count: int = Field(1, ge=1, le=9)


@pytest.mark.parametrize(
    ("values", "field", "says"),
    [
        ({"cuont": 1}, "cuont", "did you mean 'count'?"),
        ({"method": {"takeover_rte": 1}}, "method.takeover_rte", "did you mean 'takeover_rate'?"),
        ({"method": {"takeover_rate": 1.5}}, "method.takeover_rate", "found 1.5"),
        ({"method": {"takeover_rate": 1.5}}, "method.takeover_rate", "allowed: > 0 and < 1"),
        ({"count": 10}, "count", "allowed: ≥ 1 and ≤ 9"),
        ({"count": "x"}, "count", "found 'x'"),
        ({"method": {"takeover_rate": float("nan")}}, "method.takeover_rate", "found nan"),
        ({"method": {"on_rejection": "ignore"}}, "method.on_rejection", "'continue' or 'replace'"),
        ({"zzz": 1}, "zzz", "known are: count, method"),
    ],
)
def test_a_bad_setting_is_named_with_what_was_found_and_what_is_allowed(
    values: dict[str, object], field: str, says: str
) -> None:
    with pytest.raises(BadInput) as caught:
        validated(Outer, values)
    assert caught.value.field == field
    assert says in caught.value.message


def test_a_prefix_tells_where_the_settings_stand() -> None:
    with pytest.raises(BadInput, match=r"^atts\.count: found 0"):
        validated(Outer, {"count": 0}, where="atts")
