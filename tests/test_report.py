"""What leaves a notebook: figures, tables, their records and the index page."""

import io
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from somlib import report


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of two notebooks, as the working directory."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "pyproject.toml").touch()
    for name in ("01_som", "02_soae"):
        (tmp_path / "notebooks" / f"{name}.ipynb").touch()
    monkeypatch.delenv("SOMLIB_OUTPUT", raising=False)
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr(report, "_run", None)
    return tmp_path


def begin(notebook="01_som", **changes):
    settings = {"profile": "quick", "device": "cpu", "seeds": 2} | changes
    return report.start(notebook, **settings)


def line_figure(n=10):
    fig = Figure(figsize=(3, 2))
    fig.subplots().plot(np.arange(n))
    return fig


def save(name="som-line", fig=None, caption="A line.", alt="A rising line"):
    return report.save_figure(fig or line_figure(), name, caption=caption, alt=alt)


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
    begin()
    return save(**texts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": "3"}, r"seeds = '3' \(str\); expected a whole number"),
        ({"seeds": True}, r"seeds = True \(bool\)"),
        ({"seeds": 0}, "seeds = 0"),
        ({"profile": "fast"}, "profile = 'fast'.*'quick' or 'full'"),
        ({"device": 0}, r"device = 0 \(int\)"),
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


# ------------------------------------------------------------------ figures


def test_a_figure_leaves_png_svg_and_a_record(project):
    begin(n_epochs=3)
    path = save(caption="A  line\nthat rises.")
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
    begin()
    first = [save().with_suffix(suffix).read_bytes() for suffix in (".png", ".svg")]
    assert first == [save().with_suffix(suffix).read_bytes() for suffix in (".png", ".svg")]


def test_quick_figures_say_so_and_the_figure_itself_is_left_alone(project):
    fig = line_figure()
    before = list(fig.get_children())
    begin()
    quick = imread(save(fig=fig))
    begin(profile="full")
    full = imread(save(fig=fig))
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
    begin()
    assert 0.3 * report.PNG_LIMIT < save(fig=fig).stat().st_size <= report.PNG_LIMIT


def test_a_figure_that_cannot_fit_is_an_error(project, monkeypatch):
    monkeypatch.setattr(report, "PNG_LIMIT", 100)
    begin()
    with pytest.raises(ValueError, match=r"'som-line' takes .* at most 100"):
        save()
    assert not list(report.output_folder("figures", "quick").iterdir())


@pytest.mark.parametrize("name", ["Som", "som_line", "som--line", "-som", "som line", ""])
def test_ids_are_kebab_case(project, name):
    with pytest.raises(ValueError, match="lower-case-kebab-case"):
        save_into_run(name=name)


@pytest.mark.parametrize("texts", [{"caption": " "}, {"alt": ""}, {"alt": None}])
def test_caption_and_alt_are_not_optional(project, texts):
    with pytest.raises(ValueError, match=f"needs {next(iter(texts))}"):
        save_into_run(**texts)


def test_saving_before_start_is_an_error(project):
    with pytest.raises(RuntimeError, match=r"report\.start"):
        save()


def test_an_id_belongs_to_one_notebook(project):
    save_into_run()
    begin("02_soae")
    with pytest.raises(ValueError, match="'som-line' of 02_soae is taken by the figure of 01_som"):
        save()
    begin("01_som")
    with pytest.raises(ValueError, match="taken by the figure"):
        report.save_table(pd.DataFrame({"a": [1]}), "som-line", caption="A table.")
    begin("02_soae", profile="full")
    save()  # each profile is a world of its own


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
    begin()
    table = pd.DataFrame({"map": ["8|8", "20×20"], "QE": [1 / 3, 12.345], "n": [1, np.nan]})
    path = report.save_table(table, "som-map-size", caption="QE falls.")
    assert path.read_text() == f"map,QE,n\n8|8,{1 / 3!r},1.0\n20×20,12.345,\n"
    assert path.with_suffix(".md").read_text() == (
        "QE falls.\n\n| map | QE | n |\n| :--- | ---: | ---: |\n"
        "| 8\\|8 | 0.333 | 1 |\n| 20×20 | 12.3 | – |\n"
    )
    assert sidecar(path)["kind"] == "table"


def test_a_named_index_becomes_a_column(project):
    begin()
    table = pd.DataFrame({"QE": [0.5]}, index=pd.Index(["pca"], name="start"))
    path = report.save_table(table, "som-start", caption="One row.")
    assert path.read_text() == "start,QE\npca,0.5\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.00012, "0.00012"), (0.9371, "0.937"), (41.27, "41.3"), (70000.4, "70,000")],
)
def test_numbers_are_short(value, text):
    assert report.markdown(pd.DataFrame({"x": [value]})).endswith(f"| {text} |")


def test_truth_values_stay_truth_values():
    assert report.markdown(pd.DataFrame({"x": [True]})).endswith("| True |")


def test_verdicts_follow_the_stated_tolerance():
    ours = {
        "near": [0.949],  # at the tolerance, though 0.949 - 0.939 > 0.01 in binary
        "far": [0.95],
        "noisy": [0.90, 0.96],
        "new": [0.5],
    }
    published = {"near": 0.939, "far": 0.939, "noisy": 0.89, "absent": 0.7}
    table = report.versus_published(ours, published)
    assert table.verdict.to_dict() == {
        "near": "reproduced",
        "far": "not reproduced",
        "noisy": "reproduced",  # 0.04 off, two standard deviations are 0.06
        "absent": "not run",
        "new": "not published",
    }
    assert table.loc["noisy", ["ours", "± sd", "difference"]].tolist() == pytest.approx(
        [0.93, 0.03, 0.04]
    )
    pd.testing.assert_frame_equal(
        report.versus_published(pd.DataFrame({"a": [1.0, 2.0]}), pd.Series({"a": 1.5})),
        report.versus_published({"a": [1.0, 2.0]}, {"a": 1.5}),
    )


# ------------------------------------------------------------------ the index page


def test_the_page_shows_everything_in_the_order_of_the_notebooks(project):
    begin("02_soae")
    save("soae-b")
    save("soae-a", alt="A plane [0, 1]")
    begin("01_som")
    report.save_table(pd.DataFrame({"QE": [0.5]}), "som-table", caption="The table.")
    page = report.index("quick").read_text()
    heads = [line for line in page.splitlines() if line.startswith(("## ", "### "))]
    assert heads == ["## 01_som", "### som-table", "## 02_soae", "### soae-b", "### soae-a"]
    assert "![A plane \\[0, 1\\]](soae-a.png)" in page
    assert "| 0.500 |" in page
    assert "quick · cpu · 2 seeds" in page
    assert "Not complete" not in page
    assert report.index("quick").read_text() == page


def test_the_page_tells_what_is_missing(project):
    begin()
    path = save("som-gone")
    path.unlink()
    old = save("som-old").with_suffix(".json")
    old.write_text(json.dumps(sidecar(old) | {"date": "2020-01-01T00:00:00+00:00"}))
    save("som-torn").with_suffix(".json").write_text('{"id": ')
    page = report.index("quick").read_text()
    assert "- `som-gone.png` is missing" in page
    assert "- `som-old` is from an earlier run of 01_som than the rest" in page
    assert "- `som-torn.png` has no readable record" in page
    assert "- nothing from 02_soae yet" in page
