import signal
from collections.abc import Iterator

import pytest
from doubles import Clip

from eosvos.config.messages import user_errors
from eosvos.data.sequence import VideoSequence
from eosvos.evaluation.records import SequenceRecord
from eosvos.evaluation.scoring import make_row, score_sequence


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


def test_a_signal_that_is_lost_while_segmenting_ends_it_at_the_next_frame():
    segmented = []

    class Swallowing:
        def segment(self, sequence: VideoSequence) -> Iterator[object]:
            for t, name in enumerate(sequence.frame_names):
                segmented.append(t)
                if t == 1:
                    with pytest.raises(BaseException, match="stopped by SIGTERM"):
                        signal.raise_signal(signal.SIGTERM)
                yield name, sequence.checked_image(t)[0]

    with pytest.raises(SystemExit) as ended, user_errors():
        score_sequence(Swallowing(), Clip(ids=(1,), length=5))
    assert ended.value.code == 143
    assert segmented == [0, 1]
