"""Real training steps on rendered smears: resumed, on two replicas, in other number types."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from training import checkpoints, run_folder, train
from training.data import records
from training.errors import TrainingError
from training.network import model
from training.network.presets import SSD_COMPACT, SSD_LITE0, Preset, set_input_size
from training.schedule import plan_schedule
from training.settings import TrainSettings
from training.trainer import Trainer

STEPS = 4
# Plain gradient descent: Adam would hide a gradient of the wrong size.
PRESET = dataclasses.replace(SSD_COMPACT, optimizer="sgd", weight_decay=0.0)


COMPACT = model.compact
pytestmark = pytest.mark.usefixtures("tiny_network")


def _settings(records_folder: Path, output: Path, **changes: Any) -> TrainSettings:
    """One epoch is two steps of four images."""
    defaults = TrainSettings(
        records_folder,
        output,
        preset="ssd_compact",
        epochs=2,
        batch_size=4,
        learning_rate=1e-3,
        warmup_epochs=0,
        evaluate_every=0,
        checkpoint_every=1,
        precision="float32",
    )
    return dataclasses.replace(defaults, **changes)


def _trainer(
    settings: TrainSettings,
    strategy: tf.distribute.Strategy | None = None,
    preset: Preset = PRESET,
) -> Trainer:
    manifest = records.load_manifest(settings.records, "train")
    schedule = plan_schedule(settings, preset, manifest.count)
    strategy = strategy or tf.distribute.get_strategy()
    return Trainer(settings, preset, schedule, manifest, strategy)


@dataclasses.dataclass
class Trained:
    """A run of four steps on one device, without a pause: its trainable weights before the first
    one, and the loss of each."""

    trainer: Trainer
    start: list[np.ndarray]
    losses: list[float]


@pytest.fixture(scope="module")
def trained(
    tiny_network: None, records_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Trained:
    trainer = _trainer(_settings(records_folder, tmp_path_factory.mktemp("one")))
    start = [np.array(weight) for weight in trainer.network.trainable_weights]
    step, losses = trainer.train_step, []

    def counted(batch: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        found = step(batch)
        losses.append(float(found["loss"]))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "train_step", counted)
        trainer.train()
    assert trainer.step == STEPS
    return Trained(trainer, start, losses)


@pytest.fixture(scope="module")
def one_replica(trained: Trained) -> Trainer:
    return trained.trainer


@pytest.fixture(scope="module")
def start(trained: Trained) -> list[np.ndarray]:
    """The trainable weights before the first step."""
    return trained.start


def _moved(trainer: Trainer, start: list[np.ndarray]) -> np.ndarray:
    """How far training moved all trainable weights, as one vector."""
    pairs = zip(trainer.network.trainable_weights, start, strict=True)
    return np.concatenate([(np.asarray(now) - then).ravel() for now, then in pairs])


def _assert_same_way(
    one: Trainer,
    other: Trainer,
    start: list[np.ndarray],
    tolerance: float,
    least: float = 1e-3,
) -> None:
    """Both went from `start` to the same place, up to a share of the way."""
    way, other_way = _moved(one, start), _moved(other, start)
    assert np.linalg.norm(way) > least
    assert np.linalg.norm(way - other_way) < tolerance * np.linalg.norm(way)
    for a, b in zip(one.network.non_trainable_weights, other.network.non_trainable_weights,
                    strict=True):  # fmt: skip
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.01, err_msg=a.path)
    for a, b in zip(one.average.weights, other.average.weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.01, err_msg=a.path)


def test_two_replicas_give_the_numbers_of_one(
    records_folder: Path,
    tmp_path: Path,
    one_replica: Trainer,
    start: list[np.ndarray],
    two_replicas: tf.distribute.Strategy,
) -> None:
    both = _trainer(_settings(records_folder, tmp_path), two_replicas)
    both.train()
    # Hard negatives that tie but for rounding change places, and that adds up over the steps:
    # 7% were seen. Gradients averaged where they should be summed would be half the way off.
    _assert_same_way(one_replica, both, start, tolerance=0.15)


def test_clipping_sees_the_gradient_of_all_replicas(
    records_folder: Path,
    tmp_path: Path,
    start: list[np.ndarray],
    two_replicas: tf.distribute.Strategy,
) -> None:
    """The norm is the global batch's: clipped by parts, two replicas would go another way."""
    trainers: list[Trainer] = []
    for number, strategy in enumerate((tf.distribute.get_strategy(), two_replicas)):
        settings = _settings(records_folder, tmp_path / str(number), clip_norm=0.01, epochs=1)
        trainers.append(_trainer(settings, strategy))
        trainers[-1].train_step(next(iter(trainers[-1].batches(skip=0))))
    way = np.linalg.norm(_moved(trainers[0], start))
    assert way == pytest.approx(1e-3 * 0.01, rel=0.01)  # learning rate times norm
    _assert_same_way(trainers[0], trainers[1], start, tolerance=0.01, least=0.0)


def _losses(trainer: Trainer, steps: int = 3) -> list[float]:
    batches = iter(trainer.batches(skip=0))
    return [float(trainer.train_step(next(batches))["loss"]) for _ in range(steps)]


@pytest.mark.parametrize(
    "options",
    [
        {"precision": "bfloat16"},
        {"precision": "float16", "clip_norm": 100.0},
        {"xla": True},
    ],
    ids=str,
)
def test_options_for_speed_give_nearly_the_same_losses(
    records_folder: Path, tmp_path: Path, trained: Trained, options: dict[str, Any]
) -> None:
    losses = _losses(_trainer(_settings(records_folder, tmp_path, **options)))
    assert losses == pytest.approx(trained.losses[:3], rel=0.03)
    assert losses[2] != losses[0]


def test_float16_leaves_out_a_step_that_overflows(
    records_folder: Path, tmp_path: Path, two_replicas: tf.distribute.Strategy
) -> None:
    """On two replicas, one of which alone overflows; the step still counts."""
    trainer = _trainer(_settings(records_folder, tmp_path, precision="float16"), two_replicas)
    before = [np.asarray(weight) for weight in trainer.network.trainable_weights]
    trainer.optimizer.dynamic_scale.assign(1e30)
    trainer.train_step(next(iter(trainer.batches(skip=0))))
    assert trainer.step == 1
    assert float(trainer.optimizer.dynamic_scale.numpy()) == pytest.approx(0.5e30)
    assert not _moved(trainer, before).any()


def test_a_run_is_read_back_as_its_average(
    one_replica: Trainer, records_folder: Path, start: list[np.ndarray]
) -> None:
    """Of a preset that was changed, and the averaged weights: not the last ones, not the first."""
    output = one_replica.settings.output
    train.open_run(one_replica.settings, PRESET, one_replica.manifest)
    network, preset, labels = run_folder.load_network(output)
    assert preset == PRESET != SSD_COMPACT
    assert labels == one_replica.manifest.labels
    for found, wanted in zip(network.weights, one_replica.average.weights, strict=True):
        np.testing.assert_array_equal(found, wanted, err_msg=wanted.path)
    behind = _moved(one_replica, [np.asarray(mean) for mean in network.trainable_weights])
    assert 0 < np.linalg.norm(behind) < np.linalg.norm(_moved(one_replica, start))


def test_an_interrupted_run_continues_where_it_stopped(
    records_folder: Path,
    tmp_path: Path,
    one_replica: Trainer,
    start: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C in the middle of the second epoch, then the same command again."""
    first = _trainer(_settings(records_folder, tmp_path))
    step = first.train_step

    def interrupted(batch: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        if first.step == 3:
            raise KeyboardInterrupt
        return step(batch)

    monkeypatch.setattr(first, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    again = _trainer(_settings(records_folder, tmp_path))
    assert again.step == 3
    again.train()
    # Lost momentum would be a quarter of the way off.
    _assert_same_way(one_replica, again, start, tolerance=0.001)


def test_training_learns(
    records_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compact preset as it is, on one batch again and again."""
    monkeypatch.setattr(model, "compact", COMPACT)
    trainer = _trainer(_settings(records_folder, tmp_path, epochs=20), preset=SSD_COMPACT)
    batch = next(iter(trainer.batches(skip=0)))
    losses = [float(trainer.train_step(batch)["loss"]) for _ in range(15)]
    assert losses[-1] < 0.7 * losses[0]


def test_spoilt_weights_are_not_saved(records_folder: Path, tmp_path: Path) -> None:
    trainer = _trainer(_settings(records_folder, tmp_path))
    weight = trainer.network.trainable_weights[0]
    weight.assign(np.full(weight.shape, np.nan))
    with pytest.raises(TrainingError, match="1 weights are not finite"):
        trainer._save()
    assert not list((tmp_path / "checkpoints").glob("ckpt-*"))


def test_a_spoilt_image_stops_the_run_and_is_named(
    records_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = _trainer(_settings(records_folder, tmp_path))
    step, spoilt = trainer.train_step, []

    def with_a_spoilt_image(batch: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        images, offsets, targets, image_ids = batch
        if trainer.step == 2:
            spoilt.append(image_ids.numpy()[1].decode())
            rows = tf.reshape(tf.constant([0.0, np.nan, 0.0, 0.0]), [4, 1, 1])
            batch = images, offsets + rows, targets, image_ids
        return step(batch)

    monkeypatch.setattr(trainer, "train_step", with_a_spoilt_image)
    with pytest.raises(TrainingError, match="no finite number from step 3 on") as caught:
        trainer.train()
    assert f"with the images {spoilt[0]}: look at their annotations" in str(caught.value)
    assert "The last checkpoint is that of step 2" in str(caught.value)
    assert _trainer(trainer.settings).step == 2


def test_a_loss_that_explodes_names_the_whole_batch(records_folder: Path, tmp_path: Path) -> None:
    trainer = _trainer(_settings(records_folder, tmp_path))
    weight = trainer.network.trainable_weights[0]
    weight.assign(np.full(weight.shape, np.inf))
    with pytest.raises(TrainingError, match=r"from step 1 on.*lower --learning-rate \(now 0.001"):
        trainer.train()


def test_an_epoch_ends_with_its_last_image(records_folder: Path, tmp_path: Path) -> None:
    """Eight images in batches of three: 2.67 steps an epoch."""
    settings = _settings(records_folder, tmp_path, epochs=3, batch_size=3)
    schedule = plan_schedule(settings, SSD_COMPACT, 8)
    assert schedule.total_steps == 8
    assert [s for s in range(1, 9) if schedule.completes(1, 4, s)] == [3, 6, 8]
    assert [s for s in range(1, 9) if schedule.completes(2, 4, s)] == [6]
    assert not any(schedule.completes(0, 4, s) for s in range(1, 9))
    assert [s for s in range(1, 9) if schedule.completes(None, 4, s)] == [2, 4, 6, 8]
    assert [s for s in range(1, 9) if schedule.completes(None, 50, s)] == list(range(1, 9))


@pytest.mark.parametrize(
    ("images", "changes", "steps", "warmup"),
    [
        (5, {}, 300, 30),  # however few they are
        (156, {}, 300, 30),
        (4800, {}, 3000, 300),  # ten epochs, however many they are
        (156, {"batch_size": 8}, 600, 60),  # as many images
        (156, {"epochs": 30}, 293, 29),
        (156, {"epochs": 2, "warmup_epochs": 3.0}, 20, 10),
    ],
)
def test_a_preset_says_how_long_a_run_is(
    records_folder: Path, images: int, changes: dict[str, Any], steps: int, warmup: int
) -> None:
    settings = TrainSettings(records_folder, records_folder, **changes)
    preset = dataclasses.replace(SSD_COMPACT, batch_size=16, epochs=10, steps=300, warmup=0.1)
    schedule = plan_schedule(settings, preset, images)
    assert (schedule.total_steps, schedule.warmup_steps) == (steps, warmup)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "--epochs must be 1 or more, got 0"),
        ({"batch_size": -4}, "--batch-size must be 1 or more, got -4"),
        ({"learning_rate": 0.0}, "--learning-rate must be more than 0, got 0.0"),
        ({"learning_rate": float("nan")}, "--learning-rate must be more than 0, got nan"),
        ({"checkpoint_every": 0}, "--checkpoint-every must be 1 or more, got 0"),
        ({"clip_norm": -1.0}, "--clip-norm must be 0 or more, got -1.0"),
        ({"seed": -1}, "--seed must be 0 or more, got -1"),
        ({"repeat_rare": 1.5}, "--repeat-rare must be 0 to 1, got 1.5"),
        ({"weigh_rare": -0.5}, "--weigh-rare must be 0 to 1, got -0.5"),
        ({"average_decay": 1.0}, "--average-decay must be 0 or more and below 1, got 1.0"),
    ],
)
def test_settings_out_of_range(
    records_folder: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        plan_schedule(_settings(records_folder, tmp_path, **changes), SSD_COMPACT, 8)


def test_a_batch_must_divide_over_the_devices(records_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="multiple of the 2 devices, got 3"):
        train.train_detector(_settings(records_folder, tmp_path, batch_size=3, logical_cpus=2))


def test_xla_is_for_one_device(records_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="--xla is for one device, got 2"):
        train.train_detector(_settings(records_folder, tmp_path, xla=True, logical_cpus=2))


def test_other_settings_do_not_continue_a_run(records_folder: Path, tmp_path: Path) -> None:
    settings = _settings(records_folder, tmp_path)
    manifest = records.load_manifest(records_folder, "train")
    train.open_run(settings, PRESET, manifest)
    train.open_run(settings, PRESET, manifest)
    with pytest.raises(TrainingError, match=r"--epochs \(was 4 steps, now 2 steps\)"):
        train.open_run(dataclasses.replace(settings, epochs=1), PRESET, manifest)
    with pytest.raises(TrainingError, match=r"--batch-size \(was 4, now 16\)"):
        train.open_run(dataclasses.replace(settings, batch_size=None), PRESET, manifest)
    other = dataclasses.replace(manifest, labels=("crack",))
    with pytest.raises(TrainingError, match=r"the labels \(were RBC, WBC, Platelets, now crack\)"):
        train.open_run(settings, PRESET, other)
    with pytest.raises(TrainingError, match=r"the preset's optimizer \(was 'sgd', now 'adamw'\)"):
        train.open_run(settings, SSD_COMPACT, manifest)


def test_another_input_size_does_not_continue_a_run(records_folder: Path, tmp_path: Path) -> None:
    """One difference, and not one for each map that follows from it."""
    settings = _settings(records_folder, tmp_path, preset="ssd_lite0", input_size=416)
    manifest = records.load_manifest(records_folder, "train")
    train.open_run(settings, set_input_size(SSD_LITE0, 416), manifest)
    expected = r"other settings: --input-size \(was 416, now 320\)\. Give"
    with pytest.raises(TrainingError, match=expected):
        train.open_run(dataclasses.replace(settings, input_size=None), SSD_LITE0, manifest)


def test_a_presets_value_is_no_other_setting(records_folder: Path, tmp_path: Path) -> None:
    settings = _settings(records_folder, tmp_path, epochs=None, batch_size=None, learning_rate=None)
    manifest = records.load_manifest(records_folder, "train")
    train.open_run(settings, SSD_COMPACT, manifest)
    said = dataclasses.replace(settings, batch_size=16, learning_rate=2e-3)
    train.open_run(said, SSD_COMPACT, manifest)
    assert "extended" not in run_folder.read_description(tmp_path)


def test_weights_to_start_from_are_not_read_again(
    records_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = _settings(records_folder, tmp_path / "run")
    manifest = records.load_manifest(records_folder, "train")
    train.open_run(settings, PRESET, manifest)
    weights = dataclasses.replace(settings, pretrained=str(tmp_path / "vgg16.h5"))
    train.open_run(weights, PRESET, manifest)
    assert capsys.readouterr().out == ""  # it has no checkpoint, so they are
    steps = tf.train.Checkpoint(steps=tf.Variable(1))
    checkpoints.save_checkpoint(steps, settings.output / "checkpoints", 1)
    train.open_run(weights, PRESET, manifest)
    assert "run has begun already: --pretrained" in capsys.readouterr().out


def test_more_epochs_extend_a_complete_run(
    records_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From its last checkpoint on, with the learning rate of the longer run."""
    short = _settings(records_folder, tmp_path, epochs=1)
    train.train_preset(short, PRESET)
    long = dataclasses.replace(short, epochs=2)
    rates = [float(_trainer(each).optimizer.learning_rate) for each in (short, long)]
    assert rates == pytest.approx([1e-3 * 0.25, 1e-3 * (0.25 + 0.75 / 2)])
    train.train_preset(long, PRESET)
    assert f"extending {tmp_path} from 2 to 4 steps" in capsys.readouterr().out
    assert run_folder.newest_step(tmp_path) == 4
    description = run_folder.read_description(tmp_path)
    assert description["settings"]["epochs"] == 2
    assert description["extended"] == [{"steps": 2, "at_step": 2}]
    train.train_preset(long, PRESET)
    assert "complete" in capsys.readouterr().out


def test_a_second_training_in_the_folder_is_refused(records_folder: Path, tmp_path: Path) -> None:
    """Before it touches anything: it would remove the newer checkpoints of the first."""
    with run_folder.alone_in(tmp_path), pytest.raises(TrainingError, match="another training"):
        train.train_preset(_settings(records_folder, tmp_path), PRESET)
    assert not list(tmp_path.iterdir())


def test_another_preset_is_one_reason(records_folder: Path, tmp_path: Path) -> None:
    """Not a list of all the fields in which the two differ."""
    train.open_run(
        _settings(records_folder, tmp_path), PRESET, records.load_manifest(records_folder, "train")
    )
    with pytest.raises(TrainingError) as caught:
        train.train_detector(_settings(records_folder, tmp_path, preset="ssd_lite0"))
    assert str(caught.value) == (
        f"{tmp_path} holds a run with other settings: --preset (was 'ssd_compact', now "
        "'ssd_lite0'). Give the same settings to continue it, or another --output"
    )


def test_a_run_stays_with_the_number_type_it_began_in(
    records_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that is fastest in another one, too, unless that is asked for."""
    monkeypatch.setattr(train, "choose_number_type", lambda preset: "bfloat16")
    settings = _settings(records_folder, tmp_path, precision="auto", epochs=1)
    train.train_preset(settings, PRESET)
    assert run_folder.read_description(tmp_path)["settings"]["precision"] == "bfloat16"
    monkeypatch.setattr(train, "choose_number_type", lambda preset: "float32")
    train.train_preset(dataclasses.replace(settings, epochs=2), PRESET)
    assert run_folder.read_description(tmp_path)["settings"]["precision"] == "bfloat16"
    with pytest.raises(TrainingError, match=r"--precision \(was 'bfloat16', now 'float32'\)"):
        train.train_preset(dataclasses.replace(settings, epochs=2, precision="float32"), PRESET)


def test_nothing_to_do_in_a_complete_run(
    records_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = _settings(records_folder, tmp_path, epochs=1)
    trainer = _trainer(settings)
    trainer.steps.assign(trainer.schedule.total_steps)
    trainer.train()
    assert "complete" in capsys.readouterr().out


def test_a_worker_of_a_complete_run_waits_for_nobody(
    records_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The others may have ended well, and a cluster does not start those again."""
    settings = _settings(records_folder, tmp_path, epochs=1)
    train.open_run(settings, SSD_COMPACT, records.load_manifest(records_folder, "train"))
    steps = tf.train.Checkpoint(steps=tf.Variable(2))
    checkpoints.save_checkpoint(steps, tmp_path / "checkpoints", 2)
    cluster = {"worker": ["127.0.0.1:1", "127.0.0.1:2"]}
    config = {"cluster": cluster, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    assert train.train_detector(settings) == 0
    assert capsys.readouterr().out == "this run is complete: nothing to do\n"
    with pytest.raises(TrainingError, match="--seed"):
        train.train_detector(dataclasses.replace(settings, seed=1))


def test_who_asks_whether_a_run_is_complete_does_not_extend_it(
    records_folder: Path, tmp_path: Path
) -> None:
    """Several workers ask at the same time, and only one of them may write."""
    settings = _settings(records_folder, tmp_path, epochs=1)
    train.open_run(settings, SSD_COMPACT, records.load_manifest(records_folder, "train"))
    before = (tmp_path / "run.json").read_bytes()
    assert not train.is_complete(dataclasses.replace(settings, epochs=2))
    assert (tmp_path / "run.json").read_bytes() == before
