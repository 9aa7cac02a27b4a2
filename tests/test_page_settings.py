"""What the server tells the page before it is used."""

import pytest

from chatproxy.app import create_app


@pytest.mark.parametrize(
    ("base_url", "prefix"),
    [("http://127.0.0.1:1", False), ("http://127.0.0.1:1/beta", True), ("http://127.0.0.1:1/v1", False)],
)
def test_the_page_is_told_whether_an_answer_can_go_on_where_it_ended(base_url, prefix):
    told = create_app({"DEEPSEEK_BASE_URL": base_url}).test_client().get("/page.json").json
    assert told["prefix"] is prefix
