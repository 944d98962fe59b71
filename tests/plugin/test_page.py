"""The worked example of the page is a suite that passes; what the page says of the planted bug is what comes of it."""

from __future__ import annotations

import pytest

from tests.docs.pages import blocks

pytest.importorskip("msgspec")

pytest_plugins = ["pytester"]

PAGE = "docs/testing.md"
FILES = {block.file: block.text for block in blocks(PAGE) if block.file is not None}
KEY = ', key=step.idempotency_key("charge")'


@pytest.fixture
def page(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.syspath_prepend(pytester.path)
    plugin = "taquba_workflow_sync.pytest_plugin"
    pytester.makeconftest(f"from {plugin} import *\nfrom {plugin} import _taquba_crashes")
    (pytester.path / "test_orders.py").write_text(FILES["test_orders.py"])
    return pytester


def test_the_example_passes(page: pytest.Pytester) -> None:
    (page.path / "orders.py").write_text(FILES["orders.py"])

    page.runpytest_inprocess("-W", "error").assert_outcomes(passed=12)


def test_without_its_key_it_fails_as_the_page_says(page: pytest.Pytester) -> None:
    assert KEY in FILES["orders.py"]
    (page.path / "orders.py").write_text(FILES["orders.py"].replace(KEY, ""))
    (said,) = [block.text.strip() for block in blocks(PAGE) if block.language == "text"]

    result = page.runpytest_inprocess()
    result.assert_outcomes(passed=10, failed=2)
    result.stdout.fnmatch_lines([f"E * {said.replace('[', '[[]')}"])
