"""Pictures of figures: one layout for all of them."""

import io

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.layout_engine import ConstrainedLayoutEngine

from somlib.companion import pictures


@pytest.fixture
def layouts(monkeypatch):
    """The figures that have been laid out."""
    done = []
    execute = ConstrainedLayoutEngine.execute

    def noted(engine, fig):
        done.append(fig)
        execute(engine, fig)

    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", noted)
    return done


def labeled():
    fig = Figure(figsize=(3, 2), layout="constrained")
    for ax in fig.subplots(1, 2):
        ax.plot([1, 1000])
        ax.set(title="rise", ylabel="height")
    return fig


def drawn(fig, **options):
    with pictures.laid_out(fig) as box:
        file = io.BytesIO()
        fig.savefig(file, format="png", bbox_inches=pictures.framed(box), **options)
    return file.getvalue()


def test_a_picture_is_the_one_that_matplotlib_saves():
    expected = io.BytesIO()
    labeled().savefig(expected, format="png", bbox_inches="tight", dpi=pictures.DPI)
    fig = labeled()
    drawn(fig, dpi=40)  # as in a notebook, which shows a figure before it is saved
    assert drawn(fig, dpi=pictures.DPI) == expected.getvalue()


@pytest.mark.parametrize("constrained", [True, False])
def test_pictures_in_all_resolutions_share_one_layout(layouts, constrained):
    fig = labeled()
    with matplotlib.rc_context({"figure.constrained_layout.use": constrained}):
        first = drawn(fig)
        with pictures.laid_out(fig) as box:
            pictures.png(fig, box, 200_000)
            pictures.svg(fig, box, io.BytesIO(), "salt")
        assert drawn(fig) == first
    assert layouts == [fig]


def test_a_change_is_a_new_layout(layouts):
    fig = labeled()
    low = imread(io.BytesIO(drawn(fig))).shape[0]
    fig.suptitle("a title\noutside of the figure", y=1.3)
    high = imread(io.BytesIO(drawn(fig))).shape[0]
    assert layouts == [fig, fig]
    assert high > low + 20  # uncut


def test_the_layout_of_a_figure_is_its_own_again_even_after_an_error():
    fig = labeled()
    engine = fig.get_layout_engine()
    with pictures.laid_out(fig):
        assert fig.get_layout_engine() is None
    assert fig.get_layout_engine() is engine
    with pytest.raises(ZeroDivisionError), pictures.laid_out(fig):
        1 / 0  # noqa: B018
    assert fig.get_layout_engine() is engine
    bare = Figure()
    with pictures.laid_out(bare):
        pass
    assert bare.get_layout_engine() is None


def test_a_mark_stands_clear_of_the_figure_and_is_removed():
    fig = labeled()
    with pictures.laid_out(fig) as box:
        with pictures.marked(fig, box, "quick") as whole:
            assert [text.get_text() for text in fig.texts] == ["quick"]
            assert whole.y0 < box.y0 - 0.05
            assert (whole.x1, whole.y1) == pytest.approx((box.x1, box.y1), abs=0.02)
        with pictures.marked(fig, box, "") as whole:
            assert whole.extents == pytest.approx(box.extents)
    assert not fig.texts
