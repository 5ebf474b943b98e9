"""Every finding has its caption, prompts, output of the feature network, name and rows in docs."""

import re
from pathlib import Path

import numpy as np
import pytest

from echodiff.anatomy import Finding, View
from echodiff.captions.clinical import write_caption
from echodiff.captions.findings import findings_in
from echodiff.diffusion.denoising_config import FramesConfig
from echodiff.files import shipped
from echodiff.phantom.heart import sample_heart
from echodiff.pretrain.corpus import FINDINGS
from echodiff.report.charts import draw_shares
from echodiff.report.tables import FINDING_NAMES

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("finding", Finding)
def test_no_finding_is_left_out_anywhere(finding):
    rng = np.random.default_rng(0)
    assert finding in findings_in(write_caption(sample_heart(rng, [finding]), View.A4C, rng))
    assert shipped(f"prompts/{finding}.txt").is_file()
    assert finding in FINDINGS
    assert finding in FINDING_NAMES
    assert finding in FramesConfig().phantom_findings.split(",")
    for page in ("captions.md", "phantom.md"):
        rows = [row for row in (DOCS / page).read_text("utf-8").splitlines() if row[:1] == "|"]
        assert any(re.search(rf"`{finding}`", row) for row in rows), page
    assert re.search(rf"`(prompts/)?{finding}\.txt`", (DOCS / "generation.md").read_text("utf-8"))


def test_the_chart_of_shares_has_a_row_for_every_finding_and_room_for_its_name():
    share = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 16}
    chart = draw_shares(
        [{f"faithfulness_{f}": share for f in Finding}], FINDING_NAMES, "faithfulness"
    )
    assert all(f"{name}: 50 % of 16" in chart.svg for name in FINDING_NAMES.values())
    assert max(map(len, FINDING_NAMES.values())) <= 20  # 150 pixels
