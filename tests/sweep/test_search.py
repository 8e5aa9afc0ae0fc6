"""sweep=optuna: what its trials choose, who does them, and when they end."""

import json
import multiprocessing
import signal
from types import SimpleNamespace

import optuna
import pytest
from commands import PATIENCE, started, wait_for
from helpers import LIGHT, SMALL, command_line, compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from optuna.trial import TrialState
from ranks import of_two_processes

from eosvos.compat.hydra import sweep_overrides
from eosvos.config.help import CONF
from eosvos.config.schema import register
from eosvos.config.search import Search
from eosvos.errors import Pruned, UserError
from eosvos.processes import all_gather, is_rank_zero
from eosvos.sweep.checks import Checks
from eosvos.sweep.reporting import ReportToStudy
from eosvos.sweep.space import candidates, job_words
from eosvos.sweep.study import Claims, Study, next_batch

SPACE = (
    "meta.inner_lr.init=tag(log, interval(1e-4, 0.1))",
    "meta.inner_steps=int(interval(1, 5))",
    "finetune.steps=range(2, 9, 3)",
    "meta.inner_lr.level=choice(neuron, single)",
)
FIXED = "iterations=4"


def parsed(*words):
    return OverridesParser.create().parse_overrides(list(words))


def values(folder, numbers, told=(), **settings):
    """What trials of these numbers choose in a study whose first trials were told these scores."""
    study = Study(Search(**settings), folder)
    for number, score in enumerate(told):
        study.study.ask()
        study.choose(number, parsed(*SPACE))
        study.study.tell(number, score)
    while len(study.trials()) <= max(numbers):
        study.study.ask()
    return [study.choose(number, parsed(*SPACE)) for number in numbers]


@pytest.fixture
def folders(tmp_path):
    made = [tmp_path / name for name in "abc"]
    for folder in made:
        folder.mkdir()
    return made


def test_values_are_those_of_the_space(tmp_path):
    for chosen in values(tmp_path, range(4)):
        rate, steps, range_of, level = chosen.values()
        assert 1e-4 <= float(rate) <= 0.1
        assert (steps in "12345", range_of in "258", level in ("neuron", "single")) == (True,) * 3
    # What is chosen once stays, for a trial that goes on.
    assert values(tmp_path, [3]) == [chosen]
    assert job_words(parsed(FIXED, *SPACE), chosen)[0] == FIXED
    assert job_words(parsed(FIXED, *SPACE), chosen)[2] == f"meta.inner_steps={steps}"


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_seed_and_the_trials_before_fix_what_is_chosen(folders, sampler):
    settings = {"sampler": sampler, "n_startup_trials": 2, "told": (0.3, 0.5)}
    first = values(folders[0], [2, 3], **settings)
    # As another process might: not in this order.
    values(folders[1], [2], **settings)
    assert values(folders[1], [3], **settings | {"told": ()}) == first[1:]
    assert values(folders[2], [2], seed=1, **settings) != first[:1]


def hold(path, number, ready):
    claims = Claims(path)
    assert claims.claim(number)
    ready.set()
    signal.pause()


def test_a_killed_process_leaves_its_trial_to_others_and_a_living_one_does_not(tmp_path):
    study = Study(Search(n_trials=3), tmp_path)
    study.study.ask()
    chosen = study.choose(0, parsed(*SPACE))
    forked = multiprocessing.get_context("fork")
    ready = forked.Event()
    other = forked.Process(target=hold, args=(tmp_path / "lock", 0, ready))
    other.start()
    assert ready.wait(PATIENCE)
    claims = Claims(tmp_path / "lock")
    assert list(next_batch(study, claims, parsed(*SPACE))) == [1]
    study.study.tell(1, 0.5)
    other.kill()
    other.join()
    assert next_batch(study, claims, parsed(*SPACE)) == {0: chosen}
    study.study.tell(0, state=TrialState.FAIL)
    assert list(next_batch(study, claims, parsed(*SPACE))) == [2]
    study.study.tell(2, 0.5)
    assert not next_batch(study, claims, parsed(*SPACE))


def report(folder, score):
    """Tell the score of a validation of trial 1, as each process of its job does; how the job ends, if so."""
    place = (f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=1", "hydra.job.num=1", "hydra.mode=MULTIRUN")
    with command_line("sweep=optuna", "hydra.sweeper.pruner_startup_trials=1", *place):
        trainer = SimpleNamespace(
            is_global_zero=is_rank_zero(),
            strategy=SimpleNamespace(reduce_boolean_decision=lambda mine, all: any(all_gather(mine))),
        )
        module = SimpleNamespace(iteration=2, scores={"val/J&F": score})
        try:
            ReportToStudy().on_validation_end(trainer, module)
        except (Pruned, SystemExit) as end:
            return f"{type(end).__name__}: {end}"
        return ""


def begun(folder):
    """A study with a finished trial, which has reached 0.5 after two iterations, and trial 1."""
    study = Study(Search(), folder)
    before = study.study.ask()
    before.report(0.5, 2)
    study.study.tell(before, 0.6)
    study.study.ask()
    return study


def test_a_job_goes_on_while_its_validations_are_no_worse_than_the_median(tmp_path):
    study = begun(tmp_path)
    assert report(tmp_path, 0.7) == ""
    assert study.trials()[1].state == TrialState.RUNNING
    assert study.trials()[1].intermediate_values == {2: 0.7}
    # From a checkpoint before this validation: what was told first stays.
    assert report(tmp_path, 0.4) == ""


def worse(folder):
    return report(folder, 0.3)


def test_all_processes_of_a_job_end_when_a_validation_is_worse(tmp_path):
    study = begun(tmp_path)
    main, other = of_two_processes(worse, tmp_path)
    assert main == "Pruned: job 1 (output=run sweep=optuna) is pruned after 2 iterations"
    assert other == "SystemExit: "
    pruned = study.trials()[1]
    assert (pruned.state, pruned.intermediate_values) == (TrialState.PRUNED, {2: 0.3})


def checked(folder, *words):
    """What the checks before a sweep say of its command line."""
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        said = [f"hydra.sweep.dir={folder}/sweep", *words]
        cfg = GlobalHydra.instance().hydra.compose_config("train", said, RunMode.MULTIRUN)
        Checks(training=True).on_multirun_start(cfg)
        return sweep_overrides(cfg)


def test_a_launcher_asks_for_the_same_hardware_for_all_jobs(tmp_path, capsys):
    with pytest.raises(SystemExit):
        checked(tmp_path, "hydra/launcher=slurm", "trainer.devices=1,2")
    assert "hydra.launcher.gpus_per_node would be 1 for all jobs, not the 2 that" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "has nothing to choose"),
        (("seed=1,2",), "the seed that is lucky"),
        (("meta.inner_steps=shuffle(1,2)",), "leave shuffle() out"),
        (("meta.inner_steps=1,2", "overwrite=true"), "leave overwrite out"),
        (("iterations=2,3", "meta.batch_size=choice(4,0)"), "meta.batch_size=0 must be"),
        (("meta.inner_lr.init=interval(0.0,1)",), "meta.inner_lr.init=0.0 must be"),
        (("iterations=2,3", "hydra.sweeper.n_trials=0"), "hydra.sweeper.n_trials=0 must be"),
    ],
)
def test_mistakes_are_said_before_the_first_trial(tmp_path, capsys, words, said):
    with pytest.raises(SystemExit):
        checked(tmp_path, "sweep=optuna", *words)
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_setting_may_refer_to_one_that_is_chosen(tmp_path):
    refers = "finetune.steps=${meta.inner_steps}"
    jobs = list(candidates(checked(tmp_path, "sweep=optuna", FIXED, "meta.inner_steps=range(2,4)", refers)))
    assert len(jobs) == 2
    # As Hydra writes it: a reference, when it is read again.
    assert all(r"finetune.steps=$\{meta.inner_steps\}" in words for words in jobs)
    composed = [compose(*words).finetune.steps for words in jobs]
    assert composed == [2, 3]


def test_every_value_is_checked_with_the_first_of_the_others(tmp_path):
    space = checked(tmp_path, "sweep=optuna", FIXED, "meta.inner_steps=range(1,3)", SPACE[0], SPACE[3])
    lines = [" ".join(words) for words in candidates(space)]
    assert len(lines) == 4
    assert all(line.startswith(f"sweep=optuna {FIXED} meta.inner_steps=") for line in lines)
    assert lines[1].endswith("meta.inner_steps=2 meta.inner_lr.init=0.0001 meta.inner_lr.level=neuron")
    assert lines[2].endswith("meta.inner_steps=1 meta.inner_lr.init=0.1 meta.inner_lr.level=neuron")


def test_another_command_or_folder_is_refused(folders):
    study = Study(Search(), folders[0])
    study.check_same(folders[0], ["a=1,2", "b=3"])
    study.check_same(folders[0], ["b=3", "a=1,2"])
    with pytest.raises(UserError, match=r"another command, \['a=1,2', 'b=3'\]"):
        study.check_same(folders[0], ["a=1,2"])
    with pytest.raises(UserError, match="another folder"):
        study.check_same(folders[1], ["a=1,2", "b=3"])
    with pytest.raises(UserError, match=r"cannot be opened .* choose another hydra.sweeper.storage"):
        Study(Search(storage="nothing"), folders[0])


@pytest.mark.slow
def test_a_study_is_killed_and_goes_on_in_two_processes(tmp_path):
    """What the killed one was at goes on from its checkpoint; each trial is done by one of the others."""
    words = (
        *("-m", "sweep=optuna", "meta.inner_lr.init=tag(log, interval(1e-3, 0.1))", "hydra.sweep.dir=sweep"),
        *(*SMALL, LIGHT, "dataset.test.num_videos=1", "iterations=6", "val_every=3", "trainer.devices=1"),
        *("hydra.sweeper.n_trials=3", "hydra.sweeper.pruner=none", "trainer.save_minutes=1e-6"),
    )
    killed = started(tmp_path, "train.py", *words)
    wait_for(tmp_path / "sweep/0/checkpoints/last.ckpt", killed)
    killed.kill()
    killed.communicate(timeout=PATIENCE)
    url = f"sqlite:///{tmp_path}/sweep/study.db"
    [before] = optuna.load_study(study_name="eosvos", storage=url).trials
    assert before.state == TrialState.RUNNING
    both = [started(tmp_path, "train.py", *words) for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    output = "".join(out for out, _ in said)
    assert output.count(" goes on from ") == 1
    trials = optuna.load_study(study_name="eosvos", storage=url).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 3
    assert trials[0].params == before.params
    assert all(set(trial.intermediate_values) == {3, 6} for trial in trials)
    for number in range(3):
        assert output.count(f"\t#{number} : ") == 1
    best = max(trials, key=lambda trial: trial.value)
    assert f"Best: trial {best.number} with {best.value:.3f}, meta.inner_lr.init=" in output
    assert len(json.loads((tmp_path / "sweep/sweep.json").read_text())) == 3
