"""``sightrank models evaluate``: what it prints and draws, and how it refuses."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from clarifai_grpc.grpc.api import resources_pb2
from clarifai_grpc.grpc.api.resources_pb2 import Concept, Dataset, DatasetInput, Input, Model, ModelVersion, OutputInfo
from clarifai_grpc.grpc.api.service_pb2_grpc import V2Stub
from PIL import Image
from tests.integration.serving import App, Server, connected, home, new_app, of_bytes, picture, server_at, wait_for
from tests.integration.serving import run_command as run

MODEL = "fields"
TRAINED, TRAINING, QUEUED = 21100, 21101, 21103
EVALUATED, EVALUATING = 21300, 21301
NAMES = {"few": "Few [colours]", "many": "Many", "other": "Other"}


def train(app: App, concept_ids: Iterable[str] = NAMES, *, model_id: str = MODEL) -> str:
    data = resources_pb2.Data(concepts=[Concept(id=id, value=1) for id in concept_ids])
    version = ModelVersion(output_info=OutputInfo(data=data))
    version_id: str = app.call("PostModelVersions", model_id=model_id, model_versions=[version]).model.model_version.id

    def look() -> bool:
        code = app.call("GetModelVersion", model_id=model_id, version_id=version_id).model_version.status.code
        assert code in (TRAINED, TRAINING, QUEUED)
        return bool(code == TRAINED)

    wait_for("the model to be trained", look)
    return version_id


def fill(app: App) -> tuple[str, str]:
    """Two versions of a model of three concepts; the second has seen twice as many pictures."""
    names = list(NAMES)
    app.call("PostConcepts", concepts=[Concept(id=id, name=name) for id, name in NAMES.items()])
    app.call("PostModels", models=[Model(id=MODEL)])

    def labelled(numbers: range) -> list[Input]:
        return [of_bytes(picture(n), f"p{n}", concepts=[Concept(id=names[n % 3], value=1)]) for n in numbers]

    app.indexed(*labelled(range(9)))
    first = train(app)
    app.indexed(*labelled(range(9, 18)))
    return first, train(app)


@pytest.fixture(scope="module")
def app(server: Server, stub: V2Stub) -> App:
    return new_app(server, stub)


@pytest.fixture(scope="module")
def versions(app: App) -> tuple[str, str]:
    return fill(app)


@pytest.fixture(scope="module")
def dataset(app: App, versions: tuple[str, str]) -> str:
    app.call("PostDatasets", datasets=[Dataset(id="some")])
    members = [DatasetInput(input=Input(id=f"p{n}")) for n in range(12)]
    app.call("PostDatasetInputs", dataset_id="some", dataset_inputs=members)
    return "some"


def evaluate(server: Server, app: App, *options: str | Path) -> tuple[str, str, int]:
    done = run("models", "evaluate", *options, "--app", app.id, "--data-dir", server.data_dir)
    return done.stdout, done.stderr, done.returncode


def test_the_latest_version_is_evaluated_and_shown(server: Server, app: App, versions: tuple[str, str]) -> None:
    out, err, code = evaluate(server, app, MODEL)

    assert code == 0, err
    assert f"Version {versions[1]} of {MODEL}, by 5-fold cross-validation on 18 inputs" in out
    assert "ROC AUC" in out
    concept, confusion = [line.split()[2:] for line in out.splitlines() if line.startswith("Few [colours]")]
    assert concept[:2] == ["6", "12"]
    assert all(0 <= float(number) <= 1 for number in concept[2:-1])
    assert concept[-1] == "-" or 0 < float(concept[-1]) <= 1
    assert len(confusion) == 3
    assert "share of it that is predicted" in out


def test_two_versions_are_compared_by_one_dataset(
    server: Server, app: App, versions: tuple[str, str], dataset: str
) -> None:
    first, second = versions

    out, err, code = evaluate(server, app, MODEL, "--version", second, "--against", first, "--dataset", dataset)

    assert code == 0, err
    assert f"Version {second} of {MODEL}, on 12 inputs of dataset some" in out
    assert "trained on 9 of these 12 inputs" in out
    assert "difference" in out
    assert "Only --dataset" not in out
    assert "Not judged alike" not in out
    head = next(line for line in out.splitlines() if line.split()[-1:] == ["difference"])
    assert head.split() == [second[:8], first[:8], "difference"]


def test_versions_of_different_concepts_are_judged_by_different_inputs_of_a_dataset(
    server: Server, app: App, dataset: str
) -> None:
    app.call("PostModels", models=[Model(id="growing")])
    three, one = train(app, model_id="growing"), train(app, ["few"], model_id="growing")

    out, err, code = evaluate(server, app, "growing", "--version", three, "--against", one, "--dataset", dataset)

    assert code == 0, err
    shown = [f"{three[:8]} by 12 inputs and 3 concepts", f"{one[:8]} by 4 inputs and 1 concept"]
    assert f"Not judged alike: {shown[0]}, {shown[1]}; 1 is shared." in out
    compared = out[out.index("Not judged alike") :]
    summary = next(line.split() for line in compared.splitlines() if line.startswith("ROC AUC"))
    assert summary[-2:] == ["-", "-"], "the other version has no negatives, and a difference would say nothing"
    row = next(line.split() for line in compared.splitlines() if line.startswith("Few [colours]"))
    assert [row[3], row[5], row[7]] == ["-", "-", "-"]


def test_without_a_dataset_a_comparison_says_what_it_is_worth(
    server: Server, app: App, versions: tuple[str, str]
) -> None:
    out, err, code = evaluate(server, app, MODEL, "--against", versions[0])

    assert code == 0, err
    assert "Only --dataset judges both by the same inputs" in out


@pytest.mark.parametrize("kind", ["png", "svg"])
@pytest.mark.usefixtures("versions")
def test_plots_are_written(server: Server, app: App, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "new" / "plots"

    out, err, code = evaluate(server, app, MODEL, "--plots", folder, "--format", kind)

    assert code == 0, err
    names = {"roc", "precision-recall", "confusion", "calibration"}
    assert {path.name for path in folder.iterdir()} == {f"{name}.{kind}" for name in names}
    for path in folder.iterdir():
        assert f"Plot: {path}" in out.replace("\n", "")
        if kind == "svg":
            assert ElementTree.parse(path).getroot().tag.endswith("svg")
        else:
            with Image.open(path) as image:
                colours = np.asarray(image.convert("RGB")).reshape(-1, 3)
                assert min(image.size) > 600
                assert (colours == 255).all(axis=1).mean() > 0.3  # a page ...
                assert len(np.unique(colours, axis=0)) > 50  # ... with something on it


@pytest.mark.usefixtures("versions")
def test_refusals_are_one_line(server: Server, app: App, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")

    refused = {
        "no model 'nothing'": ["nothing"],
        "with version 'v'": [MODEL, "--version", "v"],
        "no dataset 'nowhere'": [MODEL, "--dataset", "nowhere"],
        "png or svg": [MODEL, "--plots", tmp_path, "--format", "pdf"],
        "cannot be written": [MODEL, "--plots", file],
    }

    before = len(app.call("ListEvaluations").eval_metrics)
    for text, options in refused.items():
        _, err, code = evaluate(server, app, *options)
        assert code == 2, err
        assert text in err
        assert len(err.strip().splitlines()) == 1
    assert len(app.call("ListEvaluations").eval_metrics) == before, "nothing is evaluated in vain"


def test_without_matplotlib_it_says_how_to_install_it(
    server: Server, app: App, versions: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text("raise ImportError('not here')")
    options = ("--app", app.id, "--data-dir", server.data_dir)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))

    done = run("models", "evaluate", MODEL, "--plots", tmp_path / "plots", *options, PYTHONPATH=path)
    plain = run("models", "evaluate", MODEL, *options, PYTHONPATH=path)

    assert done.returncode == 2
    assert "pip install 'sightrank[plots]'" in done.stderr
    assert plain.returncode == 0, plain.stderr


def test_a_killed_server_finishes_its_evaluations_when_it_is_back() -> None:
    with home() as folder, server_at(folder) as server:
        server.start()
        with connected(server) as stub:
            app = new_app(server, stub)
            version = fill(app)[1]
            # As if it had been killed in the middle: leased by a process that is gone.
            app.call("PostModelVersionMetrics", model_id=MODEL, version_id=version)
            wait_for("the evaluation", lambda: _metrics(app, version).status.code == EVALUATED)
            server.kill()
            server.sql(
                "UPDATE model_evaluations SET status = 21301, lease_owner = 'gone', metrics = '', summary = NULL,"
                " lease_until = now() + interval '1 hour' RETURNING 1"
            )
            assert server.process.poll() is not None
        server.start()
        with connected(server) as stub:
            app = App(server=server, stub=stub, id=app.id)
            wait_for("the evaluation", lambda: _metrics(app, version).status.code == EVALUATED)
            assert _metrics(app, version).summary.macro_avg_roc_auc > 0


def _metrics(app: App, version: str) -> resources_pb2.EvalMetrics:
    return app.call("GetModelVersionMetrics", model_id=MODEL, version_id=version).model_version.metrics
