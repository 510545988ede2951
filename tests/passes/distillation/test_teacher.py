"""Which teacher is refused: one with other labels, or that reads images in another way."""

from __future__ import annotations

import pytest

from optkit.errors import RecipeError
from optkit.models.checkpoint import fetch
from optkit.passes.distillation.teacher import check_teacher
from tests.tasks.builders import vit, write_processor


def test_a_teacher_with_another_number_of_labels_is_refused_even_where_it_names_none(make_checkpoint):
    """transformers leaves id2label out where there are the two of its own."""
    two = fetch(make_checkpoint("bert", ("LABEL_0", "LABEL_1")))
    assert "id2label" not in two.config
    with pytest.raises(RecipeError, match="3 labels, received one with 2"):
        check_teacher(fetch(make_checkpoint("bert", ("a", "b", "c"))), two)
    check_teacher(fetch(make_checkpoint("bert", ("a", "b"))), two)


def test_a_teacher_that_reads_images_another_way_is_refused(tmp_path):
    student, teacher = (vit(tmp_path / name) for name in ("student", "teacher"))
    check_teacher(fetch(student), fetch(teacher))
    write_processor(teacher, 8, 1, do_normalize=True, resample=2)
    check_teacher(fetch(student), fetch(teacher))
    write_processor(teacher, 8, 1, image_mean=[0.4])
    with pytest.raises(RecipeError, match="reads images as the student does.*mean"):
        check_teacher(fetch(student), fetch(teacher))
