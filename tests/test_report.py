"""What leaves a notebook: figures, tables, their records and the index page."""

import io
import json
import math
import os
import re
import subprocess
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.image import imread
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from somlib import data, report
from somlib.companion import evidence, runner
from somlib.training import loop


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of two notebooks, as the working directory."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    for name in ("01_som", "02_soae"):
        (tmp_path / "notebooks" / f"{name}.ipynb").touch()
    monkeypatch.delenv("SOMLIB_OUTPUT", raising=False)
    monkeypatch.chdir(tmp_path / "notebooks")
    return tmp_path


def begin(notebook="01_som", **changes):
    settings = {"profile": "quick", "device": "cpu", "seeds": 2} | changes
    return report.start(notebook, **settings)


def line_figure(n=10):
    fig = Figure(figsize=(3, 2))
    fig.subplots().plot(np.arange(n))
    return fig


def save(run, name="som-line", fig=None, caption="A line.", alt="A rising line"):
    return run.save_figure(fig or line_figure(), name, caption=caption, alt=alt)


def sidecar(path):
    return json.loads(path.with_suffix(".json").read_text())


# ------------------------------------------------------------------ start


def test_a_run_knows_its_size_seeds_and_folder(project):
    run = begin(n_epochs=3)
    assert (run.quick, list(run.seeds), run.device) == (True, [0, 1], "cpu")
    assert run.figures == project / "figures" / "quick"
    assert not begin(profile="full").quick


def test_auto_is_resolved_to_a_device_that_is_there(project):
    assert begin(device="auto").device in ("cpu", "cuda")


def test_the_output_folder_can_be_set(project, monkeypatch, tmp_path):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path / "elsewhere"))
    assert save_into_run().parent == tmp_path / "elsewhere" / "figures" / "quick"


def save_into_run(**texts):
    return save(begin(), **texts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": "3"}, r"seeds = '3' \(str\); expected a whole number"),
        ({"seeds": True}, r"seeds = True \(bool\)"),
        ({"seeds": 0}, "seeds = 0"),
        ({"profile": "fast"}, "profile = 'fast'.*'quick' or 'full'"),
        ({"device": 0}, r"device = 0 \(int\)"),
        ({"deterministic": "true"}, r"deterministic = 'true' \(str\); expected True or False"),
        ({"fast": "false"}, r"fast = 'false' \(str\); expected the value itself"),
        ({"rate": "1e-3"}, "rate = '1e-3'"),
        ({"sizes": "[8, 16]"}, "sizes = "),
        ({"notebook": "som"}, "notebook = 'som'"),
    ],
)
def test_a_parameter_of_the_wrong_type_is_refused_by_name(project, changes, message):
    with pytest.raises(ValueError, match=message):
        begin(**changes)


def test_texts_that_spell_nothing_else_are_parameters(project):
    assert begin(lattice="hex").parameters == {"lattice": "hex"}


def test_an_absent_device_is_an_error_not_a_fallback(project):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(RuntimeError, match="cuda"):
        begin(device="cuda")


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("device", ["mps", "cpu"])
def test_deterministic_is_an_option_of_the_run(project, monkeypatch, device, deterministic):
    import torch

    asked = []
    monkeypatch.setattr(loop, "resolve_device", torch.device)  # as if it were there
    monkeypatch.setattr(report, "_peak_memory", lambda _: {})
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    run = begin(device=device, deterministic=deterministic)
    assert asked == ([] if device == "cpu" else [deterministic])
    set_for_cublas = bool(os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None))
    assert set_for_cublas == (deterministic and device != "cpu")
    assert sidecar(save(run))["deterministic"] == deterministic
    page = report.index(run.figures).read_text()
    assert (f"{device}, deterministic ·" in page) == deterministic


def test_figures_are_the_same_whatever_the_settings_outside(project):
    """As where papermill or nbconvert run a notebook without the runner."""
    run = begin()
    expected = [save(run).with_suffix(suffix).read_bytes() for suffix in (".png", ".svg")]
    settings = {
        "lines.linewidth": 9,
        "savefig.facecolor": "red",
        "font.size": 30,
        "svg.fonttype": "none",
    }
    with matplotlib.rc_context(settings):
        run = begin()
        assert [save(run).with_suffix(s).read_bytes() for s in (".png", ".svg")] == expected


SHOWN = """\
from somlib import report
report.start("01_toy", profile="quick", device="cpu", seeds=1)
import matplotlib.pyplot as plt
plt.plot([1, 2]);"""


@pytest.mark.parametrize("backend", ["Agg", "TkAgg"])
def test_a_kernel_draws_into_the_notebook_whatever_the_settings_outside(
    backend, tmp_path, monkeypatch
):
    monkeypatch.setenv("MPLBACKEND", backend)
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    notebook = new_notebook(cells=[new_code_cell(SHOWN)])
    client = NotebookClient(
        notebook, kernel_name="python3", kernel_manager_class=runner.own_kernel()
    )
    client.execute()
    (output,) = notebook.cells[0].outputs
    assert "image/png" in output.data


# ------------------------------------------------------------------ figures


def test_a_figure_leaves_png_svg_and_a_record(project):
    path = save(begin(n_epochs=3), caption="A  line\nthat rises.")
    assert path == project / "figures" / "quick" / "som-line.png"
    assert path.with_suffix(".svg").read_text().startswith("<?xml")
    record = sidecar(path)
    assert record["caption"] == "A line that rises."
    assert {k: record[k] for k in ("id", "notebook", "profile", "device", "seeds")} == {
        "id": "som-line",
        "notebook": "01_som",
        "profile": "quick",
        "device": "cpu",
        "seeds": [0, 1],
    }
    assert record["parameters"] == {"n_epochs": 3}
    assert record["versions"]["numpy"] == np.__version__
    assert record["duration"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\+00:00", record["date"])
    assert not list(path.parent.glob(".partial*"))


def test_equal_figures_give_equal_bytes(project):
    run = begin()
    first = [save(run).with_suffix(suffix).read_bytes() for suffix in (".png", ".svg")]
    assert first == [save(run).with_suffix(suffix).read_bytes() for suffix in (".png", ".svg")]


def test_quick_figures_say_so_and_the_figure_itself_is_left_alone(project):
    fig = line_figure()
    before = list(fig.get_children())
    quick = imread(save(begin(), fig=fig))
    full = imread(save(begin(profile="full"), fig=fig))
    mark = quick.shape[0] - full.shape[0]  # what was added stands below everything else
    assert 10 <= mark <= 40
    assert quick.shape[1] == full.shape[1]
    below = quick[-mark - 10 :, -100:]  # ten of the fifteen pixels of padding
    assert (below[-10:] == 1).all()  # uncut
    assert not (below == 1).all()
    assert (full[-10:] == 1).all()
    assert fig.get_children() == before


def test_a_large_figure_loses_resolution_never_the_figure(project):
    fig = Figure(figsize=(8, 8))
    noise = np.random.default_rng(0).random((1000, 1000))
    fig.add_axes((0, 0, 1, 1)).imshow(noise, interpolation="none")
    plain = io.BytesIO()
    fig.savefig(plain, dpi=150)
    assert plain.tell() > report.PNG_LIMIT
    assert 0.3 * report.PNG_LIMIT < save(begin(), fig=fig).stat().st_size <= report.PNG_LIMIT


def test_a_figure_that_cannot_fit_is_an_error(project, monkeypatch):
    monkeypatch.setattr(report, "PNG_LIMIT", 100)
    run = begin()
    with pytest.raises(ValueError, match=r"'som-line' takes .* at most 100"):
        save(run)
    assert not list(project.rglob("som-line*"))


@pytest.mark.parametrize("name", ["Som", "som_line", "som--line", "-som", "som line", ""])
def test_ids_are_kebab_case(project, name):
    with pytest.raises(ValueError, match="lower-case-kebab-case"):
        save_into_run(name=name)


@pytest.mark.parametrize("texts", [{"caption": " "}, {"alt": ""}, {"alt": None}])
def test_caption_and_alt_are_not_optional(project, texts):
    with pytest.raises(ValueError, match=f"needs {next(iter(texts))}"):
        save_into_run(**texts)


def test_two_runs_in_one_process_do_not_share_anything(project):
    first, second = begin("01_som", n_epochs=3), begin("02_soae", profile="full", seeds=1)
    table = pd.DataFrame({"a": [1]})
    records = [sidecar(save(first)), sidecar(second.save_table(table, "soae-a", caption="One."))]
    assert [(r["notebook"], r["profile"], r["order"], r["seeds"]) for r in records] == [
        ("01_som", "quick", 1, [0, 1]),
        ("02_soae", "full", 1, [0]),
    ]
    assert [r["parameters"] for r in records] == [{"n_epochs": 3}, {}]
    assert not {"save_figure", "save_table"} & vars(report).keys()


def test_an_id_belongs_to_one_notebook(project):
    save_into_run()
    other = begin("02_soae")
    with pytest.raises(ValueError, match="'som-line' of 02_soae is taken by the figure of 01_som"):
        save(other)
    with pytest.raises(ValueError, match="taken by the figure"):
        begin("01_som").save_table(pd.DataFrame({"a": [1]}), "som-line", caption="A table.")
    save(begin("02_soae", profile="full"))  # each profile is a world of its own


# ------------------------------------------------------------------ provenance


def test_the_commit_says_when_the_tree_differs(project):
    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *who, *arguments], cwd=project, check=True, capture_output=True)

    assert sidecar(save_into_run())["commit"] is None
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    clean = sidecar(save_into_run())["commit"]
    assert re.fullmatch("[0-9a-f]{40}", clean)
    (project / "figures" / "quick" / "som-line.svg").write_text("made by a run")
    assert sidecar(save_into_run())["commit"] == clean
    (project / "pyproject.toml").write_text("[project]")
    assert sidecar(save_into_run())["commit"] == f"{clean}-dirty"


def test_a_record_names_no_host_and_no_path(project):
    import platform

    text = save_into_run().with_suffix(".json").read_text()
    assert str(project) not in text
    assert str(Path.home()) not in text
    assert f'"{platform.node()}"' not in text


# ------------------------------------------------------------------ tables


def test_csv_keeps_every_digit_and_markdown_reads(project):
    run = begin()
    table = pd.DataFrame({"map": ["8|8", "20×20"], "QE": [1 / 3, 12.345], "n": [1, np.nan]})
    path = run.save_table(table, "som-map-size", caption="QE falls.")
    assert path.read_text() == f"map,QE,n\n8|8,{1 / 3!r},1.0\n20×20,12.345,\n"
    assert path.with_suffix(".md").read_text() == (
        "QE falls.\n\n| map | QE | n |\n| :--- | ---: | ---: |\n"
        "| 8\\|8 | 0.333 | 1 |\n| 20×20 | 12.3 | – |\n"
    )
    assert sidecar(path)["kind"] == "table"


def test_the_page_does_not_credit_every_result_with_all_seeds(project):
    save(begin(side_seeds=1))
    page = report.index(report.output_folder("figures", "quick")).read_text()
    assert "2 seeds, of some results as its parameters say" in page
    assert "side_seeds = 1" in page
    save(begin(side_seeds=2))
    assert (
        "as its parameters say"
        not in report.index(report.output_folder("figures", "quick")).read_text()
    )


def test_a_named_index_becomes_a_column(project):
    run = begin()
    table = pd.DataFrame({"QE": [0.5]}, index=pd.Index(["pca"], name="start"))
    path = run.save_table(table, "som-start", caption="One row.")
    assert path.read_text() == "start,QE\npca,0.5\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.00012, "0.00012"), (0.9371, "0.937"), (41.27, "41.3"), (70000.4, "70,000")],
)
def test_numbers_are_short(value, text):
    assert report.markdown(pd.DataFrame({"x": [value]})).endswith(f"| {text} |")


def test_truth_values_stay_truth_values():
    assert report.markdown(pd.DataFrame({"x": [True]})).endswith("| True |")


# ------------------------------------------------------------------ claims and values

SURE = [0.10, 0.11, 0.12, 0.11]


def read_csv(run, what):
    return pd.read_csv(run.figures / what / f"{run.notebook}.csv", keep_default_na=False)


def test_a_claim_is_returned_and_kept_with_those_before_it(project):
    run = begin()
    claim = run.claim("som-a", "A beats B.", SURE)
    run.claim("som-b", "A equals B.", SURE, kind="equal", margin=0.01, over="images", unit="nats")
    assert (claim.alone, claim.replicates) == ("holds", "4 seeds")
    kept = read_csv(run, "claims")
    assert kept["name"].tolist() == ["som-a", "som-b"]
    assert kept["verdict"].tolist() == ["holds", "does not hold"]
    assert kept.loc[1, ["kind", "margin", "over", "unit"]].tolist() == [
        *("equal", 0.01, "images", "nats"),
    ]
    assert set(kept["commit"]) == {run.made_by["commit"] or ""}
    shown = run.claims()
    assert shown["claim"].tolist() == ["som-a", "som-b"]
    assert shown["sentence"].tolist() == ["A beats B.", "A equals B."]
    assert not list((run.figures / "claims").glob(".partial*"))


def test_claims_of_two_notebooks_are_corrected_and_kept_apart(project):
    begin().claim("som-a", "A beats B.", SURE)
    begin("02_soae").claim("soae-a", "A beats B.", [0.1, 0.2, 0.15])
    tables = [pd.read_csv(path) for path in (project / "figures/quick/claims").glob("*.csv")]
    assert [len(table) for table in tables] == [1, 1]
    assert all((table["p"] == table["p_holm"]).all() for table in tables)


@pytest.mark.parametrize("sentence", ["A beats B.", "B beats A."])
def test_a_claim_that_stands_twice_is_refused(project, sentence):
    run = begin()
    run.claim("som-a", "A beats B.", SURE)
    with pytest.raises(ValueError, match="claim 'som-a' stands twice in 01_som; choose another id"):
        run.claim("som-a", sentence, SURE)


@pytest.mark.parametrize(
    ("name", "sentence", "message"),
    [("Som_A", "A beats B.", "claim id 'Som_A' must be"), ("som-a", " ", "needs a sentence")],
)
def test_a_claim_needs_an_id_and_a_sentence(project, name, sentence, message):
    with pytest.raises(ValueError, match=message):
        begin().claim(name, sentence, SURE)


def test_a_refused_claim_leaves_nothing_behind(project):
    run = begin()
    with pytest.raises(ValueError, match="some spread"):
        run.claim("som-a", "A beats B.", [0.1, 0.1])
    assert run.claims().empty
    assert not (run.figures / "claims").exists()
    run.claim("som-a", "A beats B.", SURE)


def test_every_value_of_every_seed_is_kept(project):
    run = begin()
    run.values("ours", "SOM", "digits", {"purity": [0.7, 0.8], "QE": [1.5, 2.5]}, seeds=run.seeds)
    run.values("ours", "SOM", "digits", {"QE": [9]}, seeds=[0], changed="10 epochs instead of 20")
    kept = read_csv(run, "values")
    assert list(kept.columns) == list(evidence.VALUES)
    assert kept[["seed", "metric", "value", "changed"]].to_numpy().tolist() == [
        [0, "purity", 0.7, ""],
        [1, "purity", 0.8, ""],
        [0, "QE", 1.5, ""],
        [1, "QE", 2.5, ""],
        [0, "QE", 9.0, "10 epochs instead of 20"],
    ]
    assert set(kept["commit"]) == {run.made_by["commit"] or ""}
    pd.testing.assert_frame_equal(run.kept, kept)


def test_a_value_is_kept_once(project):
    run = begin()
    run.values("ours", "SOM", "digits", {"purity": [0.7, 0.8]}, seeds=run.seeds)
    with pytest.raises(ValueError, match=r"purity of 'SOM' on 'digits' in 'ours', seed 1, is kept"):
        run.values("ours", "SOM", "digits", {"purity": [0.9]}, seeds=[1])
    assert run.kept["value"].tolist() == [0.7, 0.8]


def test_a_run_compares_what_it_kept_with_a_table(printed):
    def table(profile, data):
        run = begin("02_soae", profile=profile)
        scores = {"nmi (geometric)": [0.24, 0.25]}
        run.values("one table 2", "a", data, scores, seeds=run.seeds, protocol="all images")
        run.values("another", "a", data, scores, seeds=run.seeds)
        return run.compared("one table 2").set_index(["data", "method", "metric"])["verdict"]

    assert table("quick", "embedded").to_dict() == {
        ("embedded", "a", "nmi (geometric)"): "not published"
    }
    full = table("full", "digits")
    assert full["digits", "a", "nmi (geometric)"] == "differs"
    assert full["mnist", "a", "purity"] == "not run"
    assert len(full) == 4


def test_the_values_of_all_notebooks_are_collected_in_one_file(project):
    folder = project / "figures" / "quick"
    assert report.collect_runs(folder).empty
    for notebook in ("02_soae", "01_som"):
        run = begin(notebook)
        run.values("ours", "SOM", "digits", {"purity": [0.7, 0.8]}, seeds=run.seeds)
        save(run, f"{notebook[3:]}-line")
        run.claim(f"{notebook[3:]}-a", "A beats B.", SURE)
    runs = report.collect_runs(folder)
    assert runs["notebook"].tolist() == ["01_som"] * 2 + ["02_soae"] * 2
    assert (folder / "runs.csv").read_text().startswith("notebook,experiment,method,data,seed,")
    assert len((folder / "runs.csv").read_text().splitlines()) == 5
    page = report.index(folder).read_text()
    assert "Not complete" not in page
    assert "[values/01_som.csv](values/01_som.csv)" in page
    assert "| A beats B. | 0.110 | 0.097 | 0.123 | holds | holds |" in page


# ------------------------------------------------------------------ what a notebook shows

BEGIN = """\
from somlib import report
run = report.start("01_toy", profile="quick", device="cpu", seeds=1)
import matplotlib.pyplot as plt"""
DRAW = "fig, ax = plt.subplots()\nax.plot([1, 2]);"
SAVE = 'run.save_figure(fig, "toy-{}", caption="A *line*.", alt="rising");'
CLAIM = 'run.claim("toy-a", "A beats B.", [0.1, 0.11, 0.12])'


def executed(*sources, allow_errors=False):
    """Return what each cell of a notebook shows: kinds of pictures, or texts."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in (BEGIN, *sources)])
    client = NotebookClient(
        notebook, kernel_name="python3", kernel_manager_class=runner.own_kernel(),
        allow_errors=allow_errors,
    )  # fmt: skip
    client.execute()
    return [[shown(output) for output in cell.outputs] for cell in notebook.cells[1:]]


def shown(output):
    data = output.get("data", {})
    texts = [data[kind] for kind in ("text/markdown", "text/html") if kind in data]
    return "picture" if "image/png" in data else [*texts, output.get("evalue")][0]


def test_a_notebook_shows_captions_under_figures_and_each_claim_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    both, drawn, saved, claim, looped, table, values = executed(
        f"{DRAW}\n{SAVE.format('a')}",
        DRAW,
        SAVE.format("b"),
        CLAIM,
        CLAIM.replace("toy-a", "toy-b") + "\nprint",
        "run.claims()",
        'run.values("ours", "SOM", "digits", {"purity": [0.5]}, seeds=run.seeds)',
    )
    assert both == ["picture", "**toy-a.** A *line*."]
    assert (drawn, saved) == (["picture"], ["**toy-b.** A *line*."])
    assert len(claim) == 1
    assert claim[0].startswith("**Claim: holds.** A beats B. Mean difference +0.11;")
    assert looped[0] == claim[0]
    assert "A beats B." in table[0]
    assert values == []


COUNT = """\
from matplotlib.layout_engine import ConstrainedLayoutEngine as Engine
layouts, execute = [], Engine.execute
def noted(engine, fig):
    layouts.append(fig)
    execute(engine, fig)
Engine.execute = noted"""


def test_a_figure_drawn_in_one_cell_and_saved_in_the_next_is_laid_out_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    _, _, drawn, _, once, _, changed = executed(
        COUNT,
        BEGIN,  # again, as a reader may
        DRAW.replace("()", "(layout='constrained')"),
        SAVE.format("a"),
        "assert layouts == [fig]",
        f"ax.set_title('new')\n{SAVE.format('b')}",
        "assert layouts == [fig, fig]",
    )
    assert (drawn, once, changed) == (["picture"], [], [])


def test_a_cell_may_be_run_again_but_an_id_may_not_stand_in_one_twice(tmp_path, monkeypatch):
    monkeypatch.setenv("SOMLIB_OUTPUT", str(tmp_path))
    values = 'run.values("ours", "SOM", "digits", {"purity": [0.5]}, seeds=run.seeds)'
    cells = executed(
        f"{CLAIM}\n{values}",
        f"{CLAIM}\n{values}",
        "len(run.claims()), len(run.kept)",
        f"{CLAIM}\n{CLAIM}",
        allow_errors=True,
    )
    assert cells[0] == cells[1]
    assert "stands twice" in cells[3][-1]


def test_the_committed_full_figure_is_shown_beside_a_quick_one(project):
    begin("01_toy", profile="full").save_table(
        pd.DataFrame({"a": [1]}), "toy-table", caption="One row."
    )
    save(begin("01_toy", profile="full"), "toy-line", alt="A line")
    figure, table, nothing, full = executed(
        'run.show_full("toy-line")',
        'run.show_full("toy-table")',
        'run.show_full("toy-gone")',
        'full = report.start("01_toy", profile="full", device="cpu", seeds=1)\n'
        'full.show_full("toy-line")',
    )
    assert figure == ["picture", "**toy-line, full run.** A line."]
    assert table == ["**toy-table, full run.** One row.\n\n| a |\n| ---: |\n| 1 |"]
    assert nothing == ["*The committed full run has no toy-gone.*"]
    assert full == []


# ------------------------------------------------------------------ published numbers


PRINTED = """\
paper,table,dataset,method,metric,average,value,sd,runs,split,source,protocol
one,table1,mnist,a,acc,,0.5,,,all images,,
one,table2,mnist,a,nmi,geometric,0.25,0.1,10,all images,,"quoted, test set"
one,table2,mnist,a,purity,,0.75,,10,all images,,
one,table2,mnist,b,nmi,geometric,0.125,,10,all images,,
one,table2,digits,a,nmi,geometric,0.375,,10,all images,,
two,table2,mnist,a,nmi,geometric,0.625,,10,all images,,
"""


@pytest.fixture
def printed(project):
    (project / "data").mkdir()
    (project / "data" / "published.csv").write_text(PRINTED)
    return project / "data" / "published.csv"


@pytest.mark.parametrize(
    ("which", "names", "values"),
    [
        (("one", "table2", "mnist", "nmi"), ["method"], {"a": 0.25, "b": 0.125}),
        (
            ("one", "table2", "mnist"),
            ["method", "metric"],
            {("a", "nmi"): 0.25, ("a", "purity"): 0.75, ("b", "nmi"): 0.125},
        ),
        (
            ("one", "table2", None, "nmi"),
            ["dataset", "method"],
            {("mnist", "a"): 0.25, ("mnist", "b"): 0.125, ("digits", "a"): 0.375},
        ),
        (("two", "table2"), ["dataset", "method", "metric"], {("mnist", "a", "nmi"): 0.625}),
    ],
)
def test_published_numbers_are_indexed_by_what_was_left_open(printed, which, names, values):
    found = report.published(*which)
    assert found.to_dict() == values
    assert list(found.index.names) == names


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (("three", "table2"), "no paper 'three'; choose the paper among 'one', 'two'"),
        (
            ("two", "table1"),
            "no paper 'two', table 'table1'; choose the table among 'table2'",
        ),
        (
            ("one", "table1", "digits"),
            "no paper 'one', table 'table1', dataset 'digits'; choose the dataset among 'mnist'",
        ),
        (
            ("one", "table2", "digits", "purity"),
            "dataset 'digits', metric 'purity'; choose the metric among 'nmi'",
        ),
    ],
)
def test_what_no_paper_printed_is_refused_with_what_there_is(printed, which, message):
    with pytest.raises(ValueError, match=message):
        report.published(*which)


def test_without_the_file_published_says_where_it_should_be(project):
    path = project / "data" / "published.csv"
    with pytest.raises(FileNotFoundError, match=f"{path} is missing; .*inside a checkout"):
        report.published("one", "table2")


def test_the_projects_own_published_numbers_are_sound():
    rows = pd.read_csv(Path(__file__).parents[1] / "data" / "published.csv")
    readme = (Path(__file__).parents[1] / "data" / "README.md").read_text()
    assert not rows.duplicated(["paper", "table", "dataset", "method", "metric"]).any()
    assert rows.value.between(0, 1, inclusive="neither").all()
    assert set(rows.metric) == {"acc", "purity", "nmi"}
    assert set(rows.dataset) < set(data.SOURCES)
    assert rows.average[rows.metric == "nmi"].isin(["arithmetic", "geometric"]).all()
    assert all(f"`{paper}`" in readme for paper in rows.paper.unique())
    # the headline of the slides' table 2, read off the paper
    table = report.published("desom-slides", "table2", "mnist").unstack("metric")
    assert table.loc["DESOM"].to_dict() == {"purity": 0.939, "nmi": 0.657}


# ------------------------------------------------------------------ significance


def literal_welch(a, b):
    """Welch's t and degrees of freedom as in every textbook; p by integrating t's density."""
    va, vb = (sum((x - sum(v) / len(v)) ** 2 for x in v) / (len(v) - 1) / len(v) for v in (a, b))
    t = abs(sum(a) / len(a) - sum(b) / len(b)) / (va + vb) ** 0.5
    df = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    norm = math.gamma((df + 1) / 2) / math.gamma(df / 2) / (df * math.pi) ** 0.5
    x = np.linspace(-t, t, 20_001)
    return 1 - np.trapezoid(norm * (1 + x * x / df) ** (-(df + 1) / 2), x)


def test_significance_is_welchs_test_against_the_best():
    ours = {
        "close": [0.93, 0.95, 0.94],
        "best": [0.94, 0.95, 0.96, 0.93],
        "spread": [0.5, 0.9, 0.99, 0.97],
        "far": [0.80, 0.81],
        "constant": [0.92, 0.92, 0.92],
    }
    p = report.significance(ours)
    assert list(p.index) == list(ours)
    expected = {row: literal_welch(v, ours["best"]) for row, v in ours.items()} | {"best": 1}
    assert p.to_dict() == pytest.approx(expected, abs=1e-6)
    assert p[p > 0.05].index.tolist() == ["close", "best", "spread"]
    pd.testing.assert_series_equal(
        report.significance(pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 5.0]})),
        report.significance({"a": [1.0, 2.0], "b": [3.0, 5.0]}),
    )


@given(
    runs=st.lists(st.lists(st.integers(0, 50), min_size=2, max_size=6), min_size=1, max_size=4),
    scale=st.sampled_from([0.01, 1, 7]),
    shift=st.integers(-5, 5),
)
def test_significance_minds_neither_unit_nor_order(runs, scale, shift):
    ours = dict(enumerate(runs))
    p = report.significance(ours)
    assert p.between(0, 1).all()
    best = max(ours, key=lambda row: np.mean(ours[row]))
    assert p[best] == 1
    other = report.significance(
        {row: scale * (np.array(v[::-1]) + shift) for row, v in reversed(ours.items())}
    )
    if sum(np.isclose(np.mean(v), np.mean(ours[best])) for v in runs) == 1:  # else either is best
        np.testing.assert_allclose(p, other[p.index], atol=1e-9)


def test_deterministic_rows_are_the_same_or_not():
    p = report.significance({"a": [0.1] * 3, "b": [0.3] * 3, "same": [0.3] * 10})
    assert p["a"] < 1e-20
    assert p[["b", "same"]].tolist() == [1, 1]


def test_without_two_runs_on_either_side_there_is_no_test():
    p = report.significance({"one": [0.9], "some": [0.95, 0.96], "none": []})
    assert p.to_dict() == pytest.approx({"one": np.nan, "some": 1, "none": np.nan}, nan_ok=True)
    p = report.significance({"one": [0.97], "some": [0.95, 0.96]})
    assert p.to_dict() == pytest.approx({"one": 1, "some": np.nan}, nan_ok=True)
    assert report.significance({"none": [], "neither": []}).isna().tolist() == [True, True]


# ------------------------------------------------------------------ the index page


def test_the_page_shows_everything_in_the_order_of_the_notebooks(project):
    run = begin("02_soae")
    save(run, "soae-b")
    save(run, "soae-a", alt="A plane [0, 1]")
    begin("01_som").save_table(pd.DataFrame({"QE": [0.5]}), "som-table", caption="The table.")
    page = report.index(report.output_folder("figures", "quick")).read_text()
    heads = [line for line in page.splitlines() if line.startswith(("## ", "### "))]
    assert heads == ["## 01_som", "### som-table", "## 02_soae", "### soae-b", "### soae-a"]
    assert "![A plane \\[0, 1\\]](soae-a.png)" in page
    assert "| 0.500 |" in page
    assert "quick · cpu · 2 seeds" in page
    assert "Not complete" not in page
    assert report.index(report.output_folder("figures", "quick")).read_text() == page


def test_the_page_tells_what_is_missing(project):
    run = begin()
    path = save(run, "som-gone")
    path.unlink()
    old = save(run, "som-old").with_suffix(".json")
    old.write_text(json.dumps(sidecar(old) | {"date": "2020-01-01T00:00:00+00:00"}))
    save(run, "som-torn").with_suffix(".json").write_text('{"id": ')
    page = report.index(report.output_folder("figures", "quick")).read_text()
    assert "- `som-gone.png` is missing" in page
    assert "- `som-old` is from an earlier run of 01_som than the others" in page
    assert "- `som-torn.png` has no readable record" in page
    assert "- nothing from 02_soae yet" in page


@pytest.mark.parametrize("change", [
    {"id": "../../elsewhere"}, {"id": 5}, {"kind": "page"}, {"kind": ["figure"]}, {"order": "1"},
    {"notebook": None}, {"seeds": 3}, {"versions": []}, {"duration": "long"}, {"date": 2020},
    {"peak memory": 5}, {"results of": 5}, {"alt": []},
])  # fmt: skip
def test_a_record_that_is_none_of_ours_is_only_named(project, change):
    run = begin()
    save(run, "som-good")
    path = save(run, "som-odd").with_suffix(".json")
    (project / "elsewhere.md").write_text("not for this page")
    path.write_text(json.dumps(sidecar(path) | change))
    page = report.index(report.output_folder("figures", "quick")).read_text()
    assert "- `som-odd.png` has no readable record" in page
    path.write_text("[" * 100_000)
    assert report.index(report.output_folder("figures", "quick")).read_text() == page


# ------------------------------------------------------------------ the registry

HEAD = "id,kind,notebook,paper,number,title,gallery\n"


def register(project, *rows, head=HEAD):
    (project / "figures").mkdir(exist_ok=True)
    (project / "figures" / "registry.csv").write_text(head + "".join(f"{row}\n" for row in rows))


def test_the_page_names_what_a_figure_repeats_and_tells_what_is_due(project):
    register(
        project,
        "som-line,figure,01_som,a-paper,figure 3,A line,",
        "som-late,table,01_som,,,Not made,",
        "soae-a,figure,02_soae,,,Of a notebook that has not run,",
    )
    run = begin()
    save(run, "som-line")
    save(run, "som-new")
    page = report.index(report.output_folder("figures", "quick")).read_text()
    assert "### som-line: A line (a-paper, figure 3)" in page
    assert "- `som-late` of 01_som was not made" in page
    assert "- `som-new` is not in the registry" in page
    assert "soae-a" not in page


def test_the_gallery_shows_two_in_a_row_of_what_was_made_in_full(project):
    register(
        project,
        "som-a,figure,01_som,,,First,yes",
        "som-b,figure,01_som,,,Never made,yes",
        "som-c,figure,01_som,,,Not for the gallery,",
        "soae-d,figure,02_soae,,,Last,yes",
    )
    run = begin(profile="full")
    for name in ("som-a", "som-c"):
        save(run, name, alt="A [line]")
    save(begin("02_soae", profile="full"), "soae-d")
    *head, row = report.gallery().splitlines()
    assert head == ["| | |", "| --- | --- |"]
    assert row == (
        "| ![A \\[line\\]](figures/full/som-a.png)<br>*First* ([01_som](notebooks/01_som.ipynb)) "
        "| ![A rising line](figures/full/soae-d.png)<br>*Last* "
        "([02_soae](notebooks/02_soae.ipynb)) |"
    )


def test_only_registered_notebooks_belong_to_the_project(project):
    for name in ("02_soae-Copy1", "03_draft", "notes"):
        (project / "notebooks" / f"{name}.ipynb").touch()
    own, others = report.notebooks()
    assert [path.stem for path in own] == ["01_som", "02_soae", "03_draft"]  # as they are called
    assert [path.stem for path in others] == ["02_soae-Copy1", "notes"]
    register(project, "som-line,figure,01_som,,,A line,", "soae-a,figure,02_soae,,,Another,")
    own, others = report.notebooks()
    assert [path.stem for path in own] == ["01_som", "02_soae"]
    assert [path.stem for path in others] == ["02_soae-Copy1", "03_draft", "notes"]
    save(begin(), "som-line")
    page = report.index(report.output_folder("figures", "quick")).read_text()
    assert "nothing from 02_soae yet" in page
    assert "Copy1" not in page
    assert "draft" not in page
    registry = project / "figures" / "registry.csv"
    registry.write_bytes(b"\xef\xbb\xbf" + registry.read_bytes())
    assert report.notebooks() == (own, others)


def test_without_a_registry_nothing_is_due_and_another_table_is_refused(project):
    assert report.registry().empty
    assert report.gallery() == "| | |\n| --- | --- |"
    register(project, "som-a,figure", head="id,kind\n")
    with pytest.raises(
        ValueError, match=r"registry.csv has the columns \['id', 'kind'\]; expected"
    ):
        report.registry()


def test_a_record_knows_the_memory_that_was_needed(project):
    pytest.importorskip("resource")
    assert 20 < sidecar(save(begin()))["peak memory"]["MB"] < 100_000
    assert "MB ·" in report.index(report.output_folder("figures", "quick")).read_text()
