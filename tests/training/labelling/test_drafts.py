"""What is found in a folder of photos, and what of it is above a threshold."""

import numpy as np

from training.labelling.drafts import Draft, count_labels, draft_photos
from training.network.onnx_network import OnnxNetwork


def test_a_draft_is_as_if_annotated(drafts: list[Draft], network: OnnxNetwork) -> None:
    for draft in drafts:
        a = draft.annotation
        assert (a.image_id, a.width, a.height) == (a.image_path.stem, 640, 480)
        assert len(a.boxes_xyxy) == len(a.labels) == len(draft.scores) > 10
        assert (np.diff(draft.scores) <= 0).all()
        assert set(a.labels) <= set(network.labels)
        assert draft.look
        assert draft.features.shape == (0,)


def test_features_are_measured_where_they_are_asked_for(
    drafts: list[Draft], network: OnnxNetwork
) -> None:
    photo = drafts[0].annotation.image_path
    (draft,) = draft_photos(network, [photo], 0.5, features=True)
    assert draft.features.shape == (3 * 64 + 3 * 192,)
    np.testing.assert_array_equal(draft.scores, drafts[0].scores)


def test_a_threshold_leaves_the_best(drafts: list[Draft]) -> None:
    draft = drafts[0]
    middle = float(draft.scores[5])
    assert len(np.unique(draft.scores[:7])) == 7
    kept = draft.above(middle)
    assert kept.annotation.labels == draft.annotation.labels[:5]
    np.testing.assert_array_equal(kept.annotation.boxes_xyxy, draft.annotation.boxes_xyxy[:5])
    assert len(kept.scores) == len(kept.annotation.difficult) == 5
    assert kept.features is draft.features
    assert draft.above(1.0).annotation.boxes_xyxy.shape == (0, 4)


def test_boxes_are_counted_by_label(drafts: list[Draft], network: OnnxNetwork) -> None:
    counts = count_labels(drafts, network.labels)
    assert counts.sum() == sum(len(draft.scores) for draft in drafts)
    assert counts[network.labels.index("RBC")] > counts[network.labels.index("WBC")] > 0
    assert count_labels([], network.labels).tolist() == [0, 0, 0]
