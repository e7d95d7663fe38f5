"""What the command line makes of an evaluation: read from the API's JSON, told in tables."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from sightrank.evaluation_report import read_report
from sightrank.evaluation_tables import compare, confused, show


def concept(id: str, *, roc_auc: float, f1: float = 0.5, positives: int = 4, negatives: int = 4) -> dict[str, Any]:
    return {
        "concept": {"id": id, "name": f"The {id}"},
        "num_pos": positives,
        "num_neg": negatives,
        "roc_auc": roc_auc,
        "avg_precision": roc_auc - 0.1,
        "f1": f1,
        "roc_curve": {"fpr": [1, 0.5, 0, 0], "tpr": [1, 1, 0.5, 0]},
        "precision_recall_curve": {
            "recall": [1, 1, 0.5, 0],
            "precision": [0.5, 0.8, 1, 1],
            "thresholds": [0.0, 0.25, 0.5, 1.0],
        },
    }


def message(version: str = "v1", **changes: Any) -> dict[str, Any]:
    """Of two concepts; a quarter of the cats are taken for dogs, and one in four is labelled with both."""
    own = {
        "mean_average_precision": 0.7,
        "folds": 5,
        "inputs": 8,
        "areas": 8,
        "concepts": {"cat": {"precision": 1.0, "recall": 0.5}, "dog": {"precision": 0.75, "recall": 0.25}},
        "calibration": [{"predicted": 0.1, "observed": 0.2, "count": 3}],
    }
    pairs = {("cat", "cat"): 0.5, ("cat", "dog"): 0.5, ("dog", "cat"): 0.25, ("dog", "dog"): 0.25}
    counts = {("cat", "cat"): 4, ("cat", "dog"): 1, ("dog", "cat"): 1, ("dog", "dog"): 4}
    return {
        "id": "e1",
        "status": {"code": 21300},
        "model": {"id": "pets", "model_version": {"id": version}},
        "summary": {"macro_avg_roc_auc": 0.8, "macro_avg_f1_score": 0.6},
        "binary_metrics": [concept("cat", roc_auc=0.9), concept("dog", roc_auc=0.7, f1=0.25)],
        "confusion_matrix": {"matrix": [{"actual": a, "predicted": p, "value": v} for (a, p), v in pairs.items()]},
        "cooccurrence_matrix": {"matrix": [{"row": a, "col": b, "count": n} for (a, b), n in counts.items()]},
        "extended_metrics": {"user_metrics": {"sightrank": own}},
    } | changes


def printed(*messages: dict[str, Any]) -> str:
    file = io.StringIO()
    console = Console(file=file, width=120)
    reports = [read_report(one) for one in messages]
    if len(reports) > 1:
        compare(console, *reports)
    else:
        show(console, reports[0])
    return file.getvalue()


def of_one(one: dict[str, Any]) -> dict[str, Any]:
    """An evaluation of one concept."""
    return message(binary_metrics=[one], confusion_matrix={}, cooccurrence_matrix={})


def test_an_evaluation_is_read() -> None:
    report = read_report(message())

    assert (report.model_id, report.version_id, report.dataset_id) == ("pets", "v1", "")
    assert report.judged_by == "by 5-fold cross-validation on 8 inputs"
    assert report.summary["macro_avg_roc_auc"] == 0.8
    assert report.summary["mean_average_precision"] == 0.7
    assert report.summary["top1_accuracy"] == 0.0  # the API leaves out what is 0
    cat = report.concepts[0]
    assert (cat.precision, cat.recall) == (1.0, 0.5)
    assert cat.best_f1 == pytest.approx(2 * 0.8 / 1.8)
    assert cat.best_threshold == 0.25
    np.testing.assert_array_equal(report.confusion, [[0.5, 0.5], [0.25, 0.25]])
    np.testing.assert_array_equal(report.calibration, [[0.1, 0.2, 3]])


def test_what_it_was_judged_by_in_words() -> None:
    def words(*, dataset: str = "", **own: int) -> str:
        changed = message(ground_truth_dataset={"id": dataset}) if dataset else message()
        changed["extended_metrics"]["user_metrics"]["sightrank"] |= own
        return read_report(changed).judged_by

    assert words(dataset="fresh", folds=0) == "on 8 inputs of dataset fresh"
    assert words(areas=20) == "by 5-fold cross-validation on 8 inputs (20 areas)"
    assert words(folds=0, inputs=1, areas=1) == "on the 1 input it was trained on: too few for cross-validation"


def test_only_what_labels_do_not_explain_is_confused() -> None:
    # Of the cats half are predicted dogs, and a quarter are dogs, too; of the dogs no more than are cats.
    assert confused(read_report(message())) == [(0, 1, 0.25)]


def test_the_weakest_concept_comes_first_and_what_cannot_be_measured_is_a_dash() -> None:
    lonely = message(binary_metrics=[concept("cat", roc_auc=0.9), concept("dog", roc_auc=0.5, f1=0.25, negatives=0)])

    rows = [line.split() for line in printed(lonely).splitlines() if line.startswith("The ")]

    assert [row[1] for row in rows[:2]] == ["dog", "cat"]
    # Without negatives there is nothing to tell it from, and no threshold is too low.
    assert rows[0][2:] == ["4", "0", "-", "0.400", "0.750", "0.250", "0.250", "-", "-"]
    assert rows[1][2:6] == ["4", "4", "0.900", "0.800"]


def test_a_concept_that_nothing_has_is_not_measured() -> None:
    absent = message(binary_metrics=[concept("cat", roc_auc=0.9), concept("dog", roc_auc=0.5, f1=0, positives=0)])

    rows = [line.split() for line in printed(absent).splitlines() if line.startswith("The dog")]

    assert rows[0][2:] == ["0", "4"] + ["-"] * 7


def test_the_summary_shows_no_number_that_nobody_measured() -> None:
    def summary(**counts: int) -> dict[str, str]:
        lines = printed(of_one(concept("cat", roc_auc=0.5, **counts))).splitlines()
        found = [line.rsplit("  ", 1) for line in lines if line.strip()]
        return {words[0].strip(): words[-1].strip() for words in found}

    no_negatives, no_positives = summary(negatives=0), summary(positives=0)

    assert [no_negatives[name] for name in ("ROC AUC", "ROC AUC, deviation")] == ["-", "-"]
    assert [no_negatives[name] for name in ("average precision", "F1", "top 1")] == ["0.700", "0.600", "0.000"]
    assert [no_positives[name] for name in ("ROC AUC", "average precision", "precision", "F1", "top 5")] == ["-"] * 5


@pytest.mark.parametrize(
    ("thresholds", "shown"),
    [([0.0, 0.25, 0.5, 1.0], "0.25"), ([0.0, 0.002, 0.5, 1.0], "0.002"), ([0.0, 1.0, 1.0, 1.0], "1.00")],
)
def test_the_best_threshold_is_shown(thresholds: list[float], shown: str) -> None:
    one = concept("cat", roc_auc=0.9)
    one["precision_recall_curve"]["thresholds"] = thresholds

    (row,) = [line.split() for line in printed(of_one(one)).splitlines() if line.startswith("The ")]

    assert row[-1] == shown


def test_no_threshold_is_proposed_where_predicting_it_everywhere_is_as_good() -> None:
    hopeless = concept("cat", roc_auc=0.4)
    # Of eight four have it: to predict it everywhere has precision 0.5, recall 1, and so F1 0.667.
    hopeless["precision_recall_curve"] = {
        "recall": [1, 1, 0.25, 0],
        "precision": [0.5, 0.5, 0.5, 1],
        "thresholds": [0.0, 0.1, 0.5, 1.0],
    }

    text = printed(of_one(hopeless))
    (row,) = [line.split() for line in text.splitlines() if line.startswith("The ")]

    assert row[-2:] == ["0.667", "-"]


def test_many_concepts_are_told_by_their_worst_confusions() -> None:
    ids = [f"c{n}" for n in range(12)]
    many = message(
        binary_metrics=[concept(id, roc_auc=0.9) for id in ids],
        confusion_matrix={"matrix": [{"actual": "c3", "predicted": "c7", "value": 0.4}]},
        cooccurrence_matrix={},
    )
    many["extended_metrics"]["user_metrics"]["sightrank"]["concepts"] = {
        id: {"precision": 1, "recall": 1} for id in ids
    }

    lines = printed(many).splitlines()

    assert [line.split() for line in lines[-1:]] == [["The", "c3", "The", "c7", "0.40"]]


def test_a_comparison_says_how_much_better_the_first_is() -> None:
    second = message("v2", summary={"macro_avg_roc_auc": 0.85, "macro_avg_f1_score": 0.6})

    text = printed(message(), second)

    lines = {line.split("  ")[0]: line.split() for line in text.splitlines() if line.strip()}
    assert lines["ROC AUC"][-3:] == ["0.800", "0.850", "-0.050"]
    assert lines["F1"][-3:] == ["0.600", "0.600", "0.000"]
    assert "Only --dataset judges both by the same inputs" in text
    alike = printed(message(ground_truth_dataset={"id": "d"}), message(ground_truth_dataset={"id": "d"}))
    assert "Only --dataset" not in alike
    assert "Not judged alike" not in alike


def test_versions_that_are_not_judged_alike_have_no_difference() -> None:
    dataset = {"id": "d"}
    both = [concept("cat", roc_auc=0.9), concept("dog", roc_auc=0.7)]
    more = message(ground_truth_dataset=dataset, binary_metrics=[*both, concept("cow", roc_auc=0.8)])
    more["extended_metrics"]["user_metrics"]["sightrank"] |= {"folds": 0, "inputs": 46, "areas": 46}
    more["extended_metrics"]["user_metrics"]["sightrank"]["concepts"]["cow"] = {"precision": 1.0, "recall": 1.0}
    less = message(
        "v2",
        ground_truth_dataset=dataset,
        binary_metrics=[concept("cat", roc_auc=0.5), concept("dog", roc_auc=0.7, negatives=0)],
        summary={"macro_avg_roc_auc": 0.5},
    )
    less["extended_metrics"]["user_metrics"]["sightrank"] |= {"folds": 0, "inputs": 7, "areas": 7}

    text = printed(more, less)

    rows = {line.split("  ")[0]: line.split() for line in text.splitlines() if line.strip()}
    assert "Not judged alike: v1 by 46 inputs and 3 concepts, v2 by 7 inputs and 2 concepts; 2 are shared." in text
    assert text.index("Not judged alike") < text.index("difference")
    assert rows["ROC AUC"] == ["ROC", "AUC", "0.800", "0.500", "-"]
    # The cats' labels are the same in both, the dogs' are not.
    assert rows["The cat"] == ["The", "cat", "0.900", "+0.400", "0.800", "+0.400", "0.500", "0.000"]
    assert rows["The dog"] == ["The", "dog", "0.700", "-", "0.600", "-", "0.500", "-"]
