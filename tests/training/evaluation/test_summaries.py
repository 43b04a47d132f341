from pathlib import Path

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from training import events
from training.evaluation import summaries
from training.evaluation.findings import Findings


def test_summaries_for_tensorboard(found: Findings, tmp_path: Path) -> None:
    truth, metrics = list(found.truth.values()), found.metrics
    writer = tf.summary.create_file_writer(str(tmp_path))
    with writer.as_default():
        summaries.write_summaries(found, step=7)
    writer.close()
    scalars = events.read_scalars(tmp_path)
    assert scalars["val/mAP@0.5"][0].tolist() == [7]
    assert scalars["val/mAP@0.5"][1] == pytest.approx([metrics.map50])
    assert scalars["val/mAP@[.5:.95]/WBC"][1] == pytest.approx([metrics.per_class["WBC"][1]])
    written = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    written.Reload()
    plugins = {
        tag: written.SummaryMetadata(tag).plugin_data.plugin_name
        for tag in written.Tags()["tensors"]
    }
    pictures = [tag for tag, plugin in plugins.items() if plugin == "images"]
    assert sorted(pictures) == sorted(f"val/{image.image_id}" for image in truth)
    row = tf.make_ndarray(written.Tensors(pictures[0])[0].tensor_proto)
    assert tf.io.decode_jpeg(row[2]).shape == (int(row[1]), int(row[0]), 3)
    curves = [tag for tag, plugin in plugins.items() if plugin == "pr_curves"]
    assert sorted(curves) == [f"val/{name}/pr_curves" for name in ("Platelets", "RBC", "WBC")]
    values = tf.make_ndarray(written.Tensors("val/RBC/pr_curves")[0].tensor_proto)
    assert values.shape == (6, 101)
    assert values[0, 0] + values[3, 0] == sum((image.classes == 0).sum() for image in truth)


def test_summaries_without_a_writer_do_nothing(found: Findings) -> None:
    summaries.write_summaries(found, step=1)
