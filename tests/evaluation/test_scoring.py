from eosvos.evaluation.records import SequenceRecord
from eosvos.evaluation.scoring import make_row


def test_diverged_fine_tuning_is_said_once_a_row_with_its_name(caplog):
    records = [SequenceRecord(f"v{i}", 5, 1, None, 0.1, 0.1, diverged_adaptations=i % 2) for i in range(6)]
    row = make_row("meta-learned", records)
    assert row.records == tuple(records)
    [said] = caplog.messages
    assert said.startswith("meta-learned: in 3 of 6 videos fine-tuning diverged")
    assert said.endswith("(v1, v3, v5)")


def test_nothing_is_said_where_nothing_diverged(caplog):
    make_row("meta-learned", [SequenceRecord("v", 5, 1, None, 0.1, 0.1)])
    assert not caplog.messages
