"""Bad configurations: found without torch, and said in one sentence."""

import signal
from pathlib import Path

import pytest
from helpers import command_line, config, prepared
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from PIL import Image

from eosvos.config.checks import check
from eosvos.config.explain import explain
from eosvos.config.messages import job_errors, user_errors
from eosvos.config.training import FinalEval
from eosvos.data.splits import split_selection
from eosvos.data.task_source import TrainingSet
from eosvos.errors import JobsFailedError, UserError, suggest


def sentence(*overrides, entry="train"):
    """What the user reads."""
    try:
        prepared(*" ".join(overrides).split(), entry=entry)
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
        ("trainer.devices=abc", ("trainer.devices=abc", "integer")),
        ("meta.inner_stepz=3", ("meta.inner_stepz", "did you mean meta.inner_steps")),
        ("meta.inner_lr.init=fast", ("meta.inner_lr.init=fast", "a valid number")),
        ("meta.multi_step_loss=maybe", ("meta.multi_step_loss=maybe", "true or false")),
        ("meta.order=ful", ("meta.order=ful", "'first_order', 'second_order_heads' or 'second_order'")),
        ("meta/outer/optimizer=lion", ("meta/outer/optimizer has no option lion", "adam, radam, sgd")),
        ("meta.outer.optimizer.lr=-1", ("meta.outer.optimizer", "lr=-1", "from 0")),
        ("meta.outer.optimizer.lr=fast", ("meta.outer.optimizer", "lr=fast", "number")),
        ("meta.outer.optimizer._target_=null", ("meta.outer.optimizer", "_target_", "torch.optim")),
        ("+meta.outer.optimizer.betas=[0.9,inf]", ("meta.outer.optimizer", "betas=", "finite")),
        ("parent.optimizer.weight_decay=-1", ("parent.optimizer", "weight_decay=-1", "from 0")),
        ("segmenter.select=best", ("segmenter.select=best", "'score' or 'score_iou'")),
        ("segmenter.min_siz=3", ("segmenter.min_siz", "segmenter.min_size")),
        ("backbone.width=wide", ("backbone.width=wide", "integer")),
        ("dataset.train.num_frame=4", ("dataset.train.num_frames",)),
        ("dataset.size=3", ("dataset.size=3", "list")),
        ("dataset.size=[a,b]", ("dataset.size=", "a must be a valid integer")),
        ("dataset.test.size=[a,b]", ("dataset.test.size=", "a must be a valid integer")),
        ("logger.csv.nme=x", ("logger.csv.nme", "logger.csv.name")),
        ("logger.csv=null", ("logger.csv=null", "group of keys")),
        ("+callbacks.mine=3", ("callbacks.mine=3", "group of keys")),
        ("+callbacks.mine={a:3}", ("callbacks.mine", "_target_")),
        ("finetune.online=null", ("finetune.online", "null", "group of keys")),
        ("seed=null", ("seed", "null")),
        ("output=null", ("output", "null")),
        ("seed=-1", ("seed=-1", "greater than or equal to 0")),
        ("iterations=-3", ("iterations=-3", "greater than or equal to 0")),
        ("meta.batch_size=0", ("meta.batch_size=0 must be greater than or equal to 1",)),
        ("meta.inner_lr.init=0", ("meta.inner_lr.init=0", "greater than 0")),
        ("dataset.augment.hue=0.7", ("dataset.augment.hue=0.7", "less than or equal to 0.5")),
        ("parent=3", ("parent=3", "group of keys")),
        ("dataset.train=3", ("dataset.train=3", "group of keys")),
        ("dataset.train._target_=null", ("dataset.train", "_target_")),
        ("dataset._target_=gone.Videos", ("dataset.train: gone.Videos cannot be built", "gone")),
        ("+foo=3", ("there is no key foo",)),
        ("+meta.foo=3", ("there is no key meta.foo",)),
        ("~segmenter", ("segmenter has no value",)),
        ("~dataset", ("dataset has no videos", "davis2016, davis2017")),
        ("seed.foo=3", ("there is no key seed.foo",)),
        ("~logger", ("logger=[] is no logger",)),
        ("logger=null", ("logger=[] is no logger",)),
        ("segmenter=null", ("name of one of its options",)),
        ("dataset=null", ("name of one of its options",)),
        ("+dataset=folder", ("without +", "dataset=OPTION")),
        ("hydra/launcher=slrum", ("hydra/launcher has no option slrum: did you mean slurm?",)),
        ("hydra/launcher=ray", ("ray is not installed", "uv pip install hydra-ray-launcher")),
        ("hydra/launcher=ray_aws", ("hydra-ray-launcher",)),
        ("parent.optimizer.lr=nan", ("parent.optimizer", "lr=nan", "finite")),
        ("checkpoint=${nope}", ("checkpoint refers to ${nope}",)),
        ("segmenter.max_size=16 segmenter.min_size=17", ("segmenter", "min_size=17 is above max_size=16")),
        ("dataset=davsi2016", ("dataset has no option davsi2016", "davis2016 or davis2017")),
        ("dataset=2016", ("name of one of its options",)),
        ("segmenter=xyz", ("segmenter has no option xyz", "light_deeplab")),
        ("experiment=paper", ("experiment has no option paper", "small")),
        ("logger=[csv,tensorbord]", ("logger has no option tensorbord", "tensorboard")),
        ("seed=1,2", ("seed=1,2", "-m")),
        ("a==", ("a==", "KEY=VALUE")),
        ("dataset=davis2016", ("dataset.root", "VALUE")),
        ("backbone=timm", ("backbone.name", "VALUE")),
        ("trusted=[3]", ("""write 'trusted=["3"]'""",)),
    ],
)
def test_bad_key_or_value(override, parts):
    message = sentence(override)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (("trainer.devices=3",), ("meta.batch_size=4", "trainer.devices=3", "multiple of 3")),
        (
            ("trainer.devices=2", "parent.steps=1", "parent.batch_size=3"),
            ("parent.batch_size=3", "multiple of 2"),
        ),
        (("final_eval.lr_grid=[0.1]",), ("final_eval.lr_grid=[0.1]", "at least 2 items")),
        (("final_eval.lr_grid=[0.1,0.01]",), ("final_eval", "lr_grid=[0.1, 0.01]", "ascending")),
        (("final_eval.lr_grid=[-1,0]",), ("final_eval.lr_grid=[-1, 0]: -1", "greater than 0")),
        (("meta.step_weights=[0,0,0,0,0]",), ("meta", "step_weights", "above 0")),
        (
            ("meta.step_weights=[-1,0,0,0,2]",),
            ("meta.step_weights", "-1 must be greater than or equal to 0"),
        ),
        (
            ("meta.multi_step_loss=false", "meta.truncate_every=2"),
            ("meta", "truncate_every=2", "multi_step_loss=true"),
        ),
        (("dataset.augment.scale_min=2",), ("dataset.augment", "scale_min=2.0", "scale_max=1.25")),
        (("dataset.query_frames=11",), ("dataset", "query_frames=11", "masks for 10")),
        (("resume=true",), ("checkpoint=FILE",)),
        (("checkpoint=gone.ckpt",), ("gone.ckpt", "no such file")),
        (("meta.order=second_order",), ("RoIAlign", "meta.order=second_order_heads")),
        (("meta.step_weights=[1,2]",), ("2 numbers", "inner_steps=5")),
        (("dataset.no_label=0.1",), ("dataset.no_label=0.1", "Mask R-CNN", "segmenter=light_deeplab")),
        (("dataset.label_inversion=1.0",), ("dataset.label_inversion=1.0", "Mask R-CNN")),
        (
            ("dataset.no_label=0.1", "segmenter=light_deeplab", "segmenter.loss=class_balanced"),
            ("dataset.no_label", "segmenter.loss=dice_bce"),
        ),
        (("dataset.single_object_videos=only",), ("dataset: single_object_videos=only", "train.num_videos")),
        (("dataset.crop=[100]",), ("dataset.crop=[100]", "at least 2 items")),
        (
            ("meta.early_stopping.patience=4",),
            ("meta: early_stopping.patience=4", "inner_steps=5", "6 steps or more"),
        ),
        (("meta.inner_lr.init=0.5",), ("meta.inner_lr", "init=0.5", "max=0.3")),
        (("segmenter=mask_rcnn", "backbone=resnet18"), ("coco", "resnet18", "segmenter.weights=none")),
        (("segmenter=deeplabv3", "backbone=resnet18"), ("coco", "resnet18", "segmenter.weights=none")),
        (("segmenter=deeplabv3",), ("DeepLabV3", "backbone=resnet50", "segmenter=light_deeplab")),
        (
            ("segmenter=deeplabv3plus", "backbone=efficientnet_lite0"),
            ("DeepLabV3+", "backbone=resnet50", "segmenter=light_deeplab"),
        ),
        (("backbone=resnet18", "backbone.weights=coco"), ("segmenter.weights=coco",)),
        (("backbone=resnet18", "backbone.weights=gone.pth"), ("gone.pth", "imagenet", "no such file")),
        (("segmenter.weights=gone.pth",), ("segmenter.weights=gone.pth", "no such file")),
        (("dataset=davis2016", "dataset.root=/nowhere"), ("/nowhere", "dataset", "set root")),
        (("dataset=folder", "dataset.images=/nowhere", "dataset.masks=/nowhere"), ("/nowhere", "images")),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else value,
)
def test_impossible_combination(overrides, parts):
    message = sentence(*overrides)
    for part in parts:
        assert part in message, message


@pytest.mark.parametrize(
    "key",
    [
        *("seed", "finetune.steps", "meta.batch_size", "meta.inner_lr.max", "dataset.query_frames"),
        *("dataset.train", "dataset.val", "dataset.test.split", "segmenter.max_size", "backbone.width"),
    ],
)
def test_a_declared_setting_cannot_be_taken_away(key):
    # A default that the option of its group has changed would come back unseen.
    with command_line(f"~{key}") as cfg, pytest.raises(UserError, match=f"leave ~{key} out"):
        check(cfg)


def test_unknown_split_names_those_that_exist(shared):
    root = f"dataset.root={shared / 'davis2016'}"
    message = sentence("dataset=davis2016", root, "dataset.test.split=vall")
    assert "vall" in message
    assert "val" in message.replace("vall", "")


def test_evaluation_shares_videos_and_no_batches():
    assert config("trainer.devices=2", entry="evaluate").trainer.devices == 2
    assert prepared("trainer.devices=3", entry="evaluate")[0].trainer.devices == 3


def test_parent_training_has_an_optimiser_in_every_configuration():
    assert config().parent.optimizer == {"_target_": "torch.optim.AdamW", "lr": 2e-3, "weight_decay": 1e-4}
    paper = config("dataset=davis2017", "dataset.root=x")
    assert paper.parent.optimizer == {"_target_": "torch.optim.AdamW", "lr": 1e-4, "weight_decay": 1e-4}


def test_missing_checkpoint_names_its_neighbours(tmp_path):
    (tmp_path / "last.ckpt").touch()
    message = sentence(f"checkpoint={tmp_path}/lst.ckpt")
    assert str(tmp_path / "last.ckpt") in message


@pytest.mark.parametrize(
    "network", [["segmenter=light_deeplab"], ["segmenter=deeplabv3", "backbone=resnet101"]]
)
def test_second_order_is_fine_for_networks_without_boxes(network):
    assert config("meta.order=second_order", *network).meta.order == "second_order"


def test_deeplabv3_and_its_successor_are_presets_of_one_network():
    v3, plus = (
        config(f"segmenter={name}", "backbone=resnet50").segmenter for name in ("deeplabv3", "deeplabv3plus")
    )
    assert (v3["weights"], v3["output_stride"], v3["decoder"]) == ("coco", 8, False)
    assert plus == v3 | {"output_stride": 16, "decoder": True}


def test_training_takes_no_folder_of_other_results(tmp_path):
    (tmp_path / "manifest.json").write_text('{"tables": []}')
    assert "overwrite=true" in sentence(f"results={tmp_path}")
    prepared(f"results={tmp_path}", "overwrite=true")
    prepared(f"results={tmp_path}", entry="evaluate")


def test_validation_needs_more_masks_than_the_first(tmp_path):
    (tmp_path / "frames").mkdir()
    for name in ("0", "1"):
        Image.new("RGB", (32, 24)).save(tmp_path / "frames" / f"{name}.png")
    Image.new("L", (32, 24), 1).save(tmp_path / "mask.png")
    data = ("dataset=folder", f"dataset.images={tmp_path}/frames", f"dataset.masks={tmp_path}/mask.png")
    net = ("segmenter=tiny_mask_rcnn", "backbone=tiny")
    assert "dataset.val" in sentence(*data, *net)
    prepared(*data, *net, "iterations=0")


def test_videos_are_listed_by_part():
    _, videos = prepared("dataset.val.num_videos=2", "dataset.test.num_videos=3")
    assert (len(videos.val[""]), len(videos.test[""])) == (2, 3)
    assert len(videos.train[0].videos) > 1000
    names = {video.name for video in videos.val[""]} & {video.name for video in videos.test[""]}
    assert not names


def test_evaluation_lists_the_test_videos_alone(shared):
    _, videos = prepared("dataset=davis2016", f"dataset.root={shared / 'davis2016'}", entry="evaluate")
    assert sorted(video.name for video in videos.test[""]) == ["breakdance", "camel", "dog", "scooter-black"]
    assert not videos.train
    assert not videos.val


class Video:
    num_frames, is_searched = 4, False

    def __init__(self, name, annotated_frames=(0, 1)):
        self.name, self.annotated_frames = name, annotated_frames


A, B, C = map(Video, "ABC")


def selected(train, count, exclude=False):
    final_eval = FinalEval(selection_videos=count, exclude_from_training=exclude)
    [rest], selection = split_selection([TrainingSet(train)], final_eval)
    return rest.videos, selection


def test_videos_to_select_on_are_different_ones():
    source = [(A, 1), (A, 2), (B, 1), (C, 1)]
    assert selected(source, 2) == (source, [A, B])
    assert selected([A, B], 5) == ([A, B], [A, B])
    assert selected([A, B], 0, exclude=True) == ([A, B], [])


def test_videos_without_a_frame_to_score_are_not_selected_on(caplog):
    first, both_ends = Video("first", [0]), Video("both ends", [0, 3])
    assert selected([first, both_ends, A], 2)[1] == [A]
    assert not caplog.text
    assert selected([first, both_ends], 2)[1] == []
    assert "no training video has a frame to score, so the final evaluation has" in caplog.text


def test_videos_that_are_excluded_are_not_trained_on():
    assert selected([(A, 1), (B, 1), (A, 2), (C, 1)], 1, exclude=True) == ([(B, 1), (C, 1)], [A])
    assert selected([A, B, C], 2, exclude=True) == ([C], [A, B])
    with pytest.raises(UserError, match=r"final_eval\.selection_videos=2 leaves no video to train on"):
        selected([A, B], 2, exclude=True)


def test_videos_that_the_small_experiment_selects_on_are_excluded(shared):
    data = ("dataset=davis2016", f"dataset.root={shared / 'davis2016'}", "experiment=small")
    _, videos = prepared(*data, "trainer.devices=1")
    assert len(videos.selection) == 2
    [train] = videos.train
    assert len(train.videos) == 6
    assert not {video.name for video in train.videos} & {video.name for video in videos.selection}


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


@pytest.mark.parametrize("made_of_it", [None, KeyError])
def test_a_signal_that_a_library_catches_is_not_lost(capsys, made_of_it):
    def library():
        try:
            signal.raise_signal(signal.SIGTERM)
        except BaseException:
            if made_of_it:
                raise made_of_it from None

    with pytest.raises(SystemExit) as ended, user_errors():
        library()
    assert ended.value.code == 143
    assert capsys.readouterr().err == "error: stopped by SIGTERM\n"
    with user_errors():
        """The next command of the process does not end by it."""


def test_a_job_that_fails_is_said_at_once_and_leaves_the_sweep_to_go_on(capsys):
    for error, said in (
        (UserError("no room"), "error: no room\n"),
        (ZeroDivisionError("x"), "ZeroDivisionError"),
    ):
        with job_errors(sweep=True):
            raise error
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended, user_errors():
        raise JobsFailedError("1 failed")
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


def test_batches_of_a_stage_that_is_left_out_need_not_be_shared():
    parent = ("parent.steps=1", "parent.batch_size=6", "meta.batch_size=4", "trainer.devices=3")
    assert config("iterations=0", *parent).trainer.devices == 3
    with pytest.raises(UserError, match=r"meta\.batch_size=4 cannot be shared"):
        config(*parent)
