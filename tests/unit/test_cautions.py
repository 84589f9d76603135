"""What a reader is warned of."""

from lofi.report.cautions import cautions
from tests.unit.audits import audit_of, cell


def titles(*cells, **options):
    return " ".join(w.title.replace("\xa0", " ") for w in cautions(audit_of(*cells, **options)))


def test_a_clean_sweep_has_no_warnings():
    assert titles(cell("lofi")) == ""


def test_warnings_name_silent_no_ops_wrong_budgets_noise_gaps_and_small_cells():
    assert "1 cell below keep 1 changed no answer" in titles(cell("lofi", agreement=1.0))
    assert "kept another number of tokens" in titles(cell("lofi", kept_tokens=40.0, layer_mean_tokens=40.0))
    assert "kept another number of tokens" not in titles(cell("lofi", "0.1250", kept_tokens=18.0))
    assert "Running the full model again changes answers" in titles(cell("lofi"), floor=0.98)
    assert "noise floor is missing" in titles(cell("lofi"), floor=None)
    assert "unparsed" in titles(cell("lofi", unparsed=0.5))
    assert "only 20 samples" in titles(cell("lofi", n=20))


def test_keep_one_may_agree_everywhere():
    assert titles(cell("lofi", "1.0000", 1.0)) == ""
