"""Bad configurations: found without torch, and said in one sentence."""

import signal
from pathlib import Path

import pytest
from eosvos.run.checks import check, prepare, split_tuning
from eosvos.run.explain import explain
from eosvos.run.messages import JobFailedError, job_errors, user_errors
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from PIL import Image

from eosvos.errors import UserError, suggest


def sentence(compose, *overrides, entry="train"):
    """What the user reads."""
    try:
        prepare(compose(*" ".join(overrides).split(), entry=entry), training=entry == "train")
    except UserError as error:
        message = str(error)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        message = explain(error)
    else:
        pytest.fail(f"{overrides} passed")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("trainer.devices=abc", ("trainer.devices", "whole number", "abc")),
        ("meta.inner_stepz=3", ("meta.inner_stepz", "did you mean meta.inner_steps")),
        ("meta.rates.init=fast", ("meta.rates.init", "a number", "fast")),
        ("meta.multi_step=maybe", ("meta.multi_step", "true or false")),
        ("meta.order=ful", ("meta.order=ful", "first, heads, full")),
        ("meta.outer.name=sgd", ("meta.outer.name=sgd", "radam, adam")),
        ("segmenter.select=best", ("segmenter.select=best", "score_iou")),
        ("segmenter.min_siz=3", ("segmenter.min_siz", "segmenter.min_size")),
        ("backbone.width=wide", ("backbone.width", "whole number")),
        ("dataset.train.num_frame=4", ("dataset.train.num_frames",)),
        ("dataset.size=3", ("dataset.size", "list")),
        ("dataset.size=[a,b]", ("dataset.size", "whole number")),
        ("logger.csv.nme=x", ("logger.csv.nme", "logger.csv.name")),
        ("finetune.online=null", ("finetune.online", "null")),
        ("seed=null", ("seed", "null")),
        ("seed=-1", ("seed=-1", "at least 0")),
        ("iterations=-3", ("iterations=-3", "at least 0")),
        ("meta.rates.init=0", ("meta.rates.init=0", "greater than 0")),
        ("dataset.augment.hue=0.7", ("dataset.augment.hue=0.7", "at most 0.5")),
        ("parent=3", ("parent", "group of keys")),
        ("+foo=3", ("there is no key foo",)),
        ("+meta.foo=3", ("there is no key meta.foo",)),
        ("~segmenter", ("segmenter has no value",)),
        ("~dataset", ("dataset has no value", "davis2016, davis2017")),
        ("~meta.batch", ("leave ~meta.batch out",)),
        ("~dataset.train", ("leave ~dataset.train out",)),
        ("~logger", ("logger=[] is no logger",)),
        ("logger=null", ("logger=[] is no logger",)),
        ("segmenter=null", ("name of one of its options",)),
        ("dataset=null", ("name of one of its options",)),
        ("+dataset=folder", ("without +", "dataset=OPTION")),
        ("hydra/launcher=joblib", ("joblib is not installed", "uv pip install hydra-joblib-launcher")),
        ("hydra/launcher=submitit_slurm", ("hydra-submitit-launcher",)),
        ("parent.lr=nan", ("parent.lr=nan", "finite")),
        ("checkpoint=${nope}", ("checkpoint refers to ${nope}",)),
        (
            "segmenter.max_size=16 segmenter.min_size=17",
            ("segmenter.min_size=17 is above segmenter.max_size=16",),
        ),
        ("dataset=davsi2016", ("dataset has no option davsi2016", "davis2016 or davis2017")),
        ("dataset=2016", ("name of one of its options",)),
        ("segmenter=xyz", ("segmenter has no option xyz", "semantic")),
        ("logger=[csv,tensorbord]", ("logger has no option tensorbord", "tensorboard")),
        ("seed=1,2", ("seed=1,2", "-m")),
        ("a==", ("a==", "KEY=VALUE")),
        ("dataset=davis2016", ("dataset.root", "VALUE")),
        ("backbone=timm", ("backbone.name", "VALUE")),
    ],
)
def test_bad_key_or_value(compose, override, parts):
    message = sentence(compose, override)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (("trainer.devices=3",), ("meta.batch=4", "trainer.devices=3", "multiple of 3")),
        (("trainer.devices=2", "parent.steps=1", "parent.batch=3"), ("parent.batch=3", "multiple of 2")),
        (("report.rates=[0.1]",), ("report.rates=[0.1]", "2 or more")),
        (("report.rates=[0.1,0.01]",), ("report.rates=[0.1, 0.01]", "ascending")),
        (("report.rates=[-1,0]",), ("report.rates=[-1.0, 0.0]: -1.0", "greater than 0")),
        (("meta.step_weights=[0,0,0,0,0]",), ("meta.step_weights", "above 0")),
        (("meta.step_weights=[-1,0,0,0,2]",), ("meta.step_weights", "-1.0 is too small")),
        (
            ("meta.multi_step=false", "meta.truncate_every=2"),
            ("meta.truncate_every=2", "meta.multi_step=true"),
        ),
        (("dataset.augment.scale_min=2",), ("dataset.augment.scale_min=2", "dataset.augment.scale_max=1.25")),
        (("dataset.query_frames=11",), ("dataset.query_frames=11", "masks for 10")),
        (("resume=true",), ("checkpoint=FILE",)),
        (("checkpoint=gone.ckpt",), ("gone.ckpt", "no such file")),
        (("meta.order=full",), ("RoIAlign", "meta.order=heads")),
        (("meta.step_weights=[1,2]",), ("2 numbers", "meta.inner_steps=5")),
        (("meta=paper", "meta.step_weights=[1,1,1,1,1]"), ("meta.multi_step=true",)),
        (("meta.rates.init=0.5",), ("meta.rates.init=0.5", "meta.rates.max=0.3")),
        (("segmenter=mask_rcnn", "backbone=resnet18"), ("coco", "resnet18", "segmenter.weights=none")),
        (("backbone=resnet18", "backbone.weights=coco"), ("segmenter.weights=coco",)),
        (("backbone=resnet18", "backbone.weights=gone.pth"), ("gone.pth", "imagenet", "no such file")),
        (("segmenter.weights=gone.pth",), ("segmenter.weights=gone.pth", "no such file")),
        (("dataset=davis2016", "dataset.root=/nowhere"), ("/nowhere", "dataset.root")),
        (("dataset=folder", "dataset.images=/nowhere", "dataset.masks=/nowhere"), ("/nowhere",)),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
def test_impossible_combination(compose, overrides, parts):
    message = sentence(compose, *overrides)
    for part in parts:
        assert part in message, message


def test_unknown_split_names_those_that_exist(compose, shared):
    root = f"dataset.root={shared / 'davis2016'}"
    message = sentence(compose, "dataset=davis2016", root, "dataset.test.split=vall")
    assert "vall" in message
    assert "val" in message.replace("vall", "")


def test_evaluation_takes_one_process(compose):
    assert "one process" in sentence(compose, "trainer.devices=2", entry="evaluate")


def test_missing_checkpoint_names_its_neighbours(compose, tmp_path):
    (tmp_path / "last.ckpt").touch()
    message = sentence(compose, f"checkpoint={tmp_path}/lst.ckpt")
    assert str(tmp_path / "last.ckpt") in message


def test_second_order_is_fine_for_the_semantic_segmenter(compose):
    check(compose("meta.order=full", "segmenter=semantic"))


def test_training_takes_no_folder_of_other_results(compose, tmp_path):
    (tmp_path / "manifest.json").write_text('{"tables": []}')
    assert "overwrite=true" in sentence(compose, f"results={tmp_path}")
    prepare(compose(f"results={tmp_path}", "overwrite=true"))
    prepare(compose(f"results={tmp_path}", entry="evaluate"), training=False)


def test_validation_needs_more_masks_than_the_first(compose, tmp_path):
    (tmp_path / "frames").mkdir()
    for name in ("0", "1"):
        Image.new("RGB", (32, 24)).save(tmp_path / "frames" / f"{name}.png")
    Image.new("L", (32, 24), 1).save(tmp_path / "mask.png")
    data = ("dataset=folder", f"dataset.images={tmp_path}/frames", f"dataset.masks={tmp_path}/mask.png")
    net = ("segmenter=tiny_mask_rcnn", "backbone=tiny")
    assert "dataset.val" in sentence(compose, *data, *net)
    prepare(compose(*data, *net, "iterations=0"))


def test_videos_are_listed_by_part(compose):
    videos = prepare(compose("dataset.val.count=2", "dataset.test.count=3"))
    assert (len(videos.val), len(videos.test)) == (2, 3)
    assert len(videos.train) > 1000
    names = {video.name for video in videos.val} & {video.name for video in videos.test}
    assert not names


def test_evaluation_lists_the_test_videos_alone(compose, shared):
    cfg = compose("dataset=davis2016", f"dataset.root={shared / 'davis2016'}", entry="evaluate")
    videos = prepare(cfg, training=False)
    assert sorted(video.name for video in videos.test) == ["breakdance", "camel", "dog", "scooter-black"]
    assert not videos.train
    assert not videos.val


class Video:
    def __init__(self, name):
        self.name = name


A, B, C = map(Video, "ABC")


def test_tuning_videos_are_different_ones():
    pool = [(A, 1), (A, 2), (B, 1), (C, 1)]
    assert split_tuning(pool, 2, hold_out=False) == (pool, [A, B])
    assert split_tuning([A, B], 5, hold_out=False) == ([A, B], [A, B])
    assert split_tuning([A, B], 0, hold_out=True) == ([A, B], [])


def test_videos_that_are_held_out_are_not_trained_on():
    assert split_tuning([(A, 1), (B, 1), (A, 2), (C, 1)], 1, hold_out=True) == ([(B, 1), (C, 1)], [A])
    assert split_tuning([A, B, C], 2, hold_out=True) == ([C], [A, B])
    with pytest.raises(UserError, match=r"report\.tuning_videos=2 leaves no video to train on"):
        split_tuning([A, B], 2, hold_out=True)


def test_videos_of_schedule_hours_are_held_out(compose, shared):
    data = ("dataset=davis2016", f"dataset.root={shared / 'davis2016'}", "schedule=hours")
    videos = prepare(compose(*data, "trainer.devices=1"))
    assert len(videos.tuning) == 2
    assert len(videos.train) == 6
    assert not {video.name for video in videos.train} & {video.name for video in videos.tuning}


def test_suggestions():
    assert suggest("bacth", ["batch", "order"], "meta.") == "did you mean meta.batch?"
    assert suggest("my.clipp", ["my.clip", "other"]) == "did you mean my.clip?"
    assert suggest("xyz", [f"a{i:02d}" for i in range(23)]).endswith("a18, a19, and 3 more")
    assert suggest("xyz", ["batch", "order"]) == "there are batch, order"


def test_user_errors_end_with_status_2_and_one_line(capsys):
    with pytest.raises(SystemExit) as ended, user_errors():
        raise UserError("no such thing: make one")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "error: no such thing: make one\n"


def test_other_errors_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), user_errors():
        print(1 / 0)
    with pytest.raises(ValueError, match="shape"), user_errors():
        raise ValueError("shape")


def test_no_error_no_exit(tmp_path: Path):
    with user_errors():
        (tmp_path / "done").touch()
    assert (tmp_path / "done").exists()


def test_signals_end_with_their_status(capsys):
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with pytest.raises(SystemExit) as ended, user_errors():
            signal.raise_signal(number)
        assert ended.value.code == status
    assert capsys.readouterr().err == "error: stopped by SIGINT\nerror: stopped by SIGTERM\n"


def test_a_job_that_fails_is_said_at_once_and_leaves_the_sweep_to_go_on(capsys):
    for error, said in (
        (UserError("no room"), "error: no room\n"),
        (ZeroDivisionError("x"), "ZeroDivisionError"),
    ):
        with pytest.raises(JobFailedError), job_errors(sweep=True):
            raise error
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended, user_errors():
        raise JobFailedError
    assert ended.value.code == 1


def test_a_signal_ends_the_whole_sweep():
    with pytest.raises(SystemExit) as ended, job_errors(sweep=True):
        signal.raise_signal(signal.SIGINT)
    assert ended.value.code == 130


def test_the_log_of_a_run_holds_its_errors(caplog):
    with pytest.raises(SystemExit), job_errors(sweep=False):
        raise UserError("no such thing: make one")
    with pytest.raises(ZeroDivisionError), job_errors(sweep=False):
        print(1 / 0)
    assert "no such thing: make one" in caplog.text
    assert "Traceback" in caplog.text
