"""Verdicts: intervals, equivalence, corrections, and the comparison with published numbers."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from somlib import report
from somlib.companion import comparison, evidence, verdicts
from somlib.companion.verdicts import Difference

samples = st.lists(st.integers(0, 50), min_size=2, max_size=8).filter(lambda v: len(set(v)) > 1)
margins = st.sampled_from([0.5, 2.0, 10.0])


# ------------------------------------------------------------------ intervals


@given(samples)
def test_paired_differences_are_a_t_test_of_their_mean(values):
    found = verdicts.paired(values)
    expected = stats.ttest_1samp(values, 3)
    assert found.interval(0.95) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.p_not(3) == pytest.approx(expected.pvalue)
    assert found.p_above(3) == pytest.approx(stats.ttest_1samp(values, 3, alternative="greater")[1])


@given(samples, samples)
def test_independent_samples_are_welchs_test(values, against):
    found = verdicts.independent(values, against)
    expected = stats.ttest_ind(values, against, equal_var=False)
    assert found.interval(0.95) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.p_not(0) == pytest.approx(expected.pvalue, abs=1e-12)
    assert found.freedom == pytest.approx(expected.df)


def test_a_printed_spread_enters_as_in_welchs_test():
    found = verdicts.from_published((0.94, 0.004, 5), 0.93, 0.006, 10)
    expected = stats.ttest_ind_from_stats(0.94, 0.004, 5, 0.93, 0.006, 10, equal_var=False)
    assert found.p_not(0) == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(("sd", "runs"), [(None, 10), (None, None), (0.5, 1)])
def test_a_spread_that_is_not_known_is_ours_and_adds_no_freedom(sd, runs):
    values = np.array([0.94, 0.945, 0.95])
    s, n = values.std(ddof=1), runs or 3
    found = verdicts.from_published((values.mean(), s, 3), 0.93, sd, runs)
    half = stats.t.ppf(0.975, 2) * s * math.sqrt(1 / 3 + 1 / n)
    assert found.interval(0.95) == pytest.approx((0.015 - half, 0.015 + half))


def test_with_an_assumed_spread_the_interval_still_covers_as_stated():
    """Ten published runs whose spread is not printed, three of ours, no true difference."""
    draws = np.random.default_rng(0).normal(size=(4000, 13))
    covered = 0
    for ours, theirs in zip(draws[:, :3], draws[:, 3:], strict=True):
        found = verdicts.from_published((ours.mean(), ours.std(ddof=1), 3), theirs.mean(), None, 10)
        low, high = found.interval(0.95)
        covered += low <= 0 <= high
    assert covered / len(draws) == pytest.approx(0.95, abs=0.015)


# ------------------------------------------------------------------ equivalence


def literal_equivalence(difference, margin):
    """Two one-sided t-tests, each from its statistic; the larger p value."""
    above = (difference.mean + margin) / difference.error
    below = (difference.mean - margin) / difference.error
    return max(stats.t.sf(above, difference.freedom), stats.t.cdf(below, difference.freedom))


@given(samples, margins)
def test_equivalence_is_two_one_sided_tests(values, margin):
    found = verdicts.paired(values)
    assert found.p_within(margin) == pytest.approx(literal_equivalence(found, margin))
    low, high = found.interval(0.90)  # the two forms of the same test
    assert (found.p_within(margin) < 0.05) == (-margin < low and high < margin)


# ------------------------------------------------------------------ claims


@given(samples, st.sampled_from(["greater", "equal"]), margins, st.integers(-20, 20))
def test_a_verdict_is_what_the_intervals_say(values, kind, margin, shift):
    found = verdicts.paired(np.array(values) + shift - 25)
    low, high = found.interval(0.95)
    if kind == "greater":
        holds, fails = low > margin, high < margin
    else:
        inner = found.interval(0.90)
        holds, fails = -margin < inner[0] and inner[1] < margin, low > margin or high < -margin
    expected = "holds" if holds else "does not hold" if fails else "undecided"
    verdict, p = verdicts.judge(found, kind, margin)
    assert verdict == expected
    assert (p < 0.05) == (verdict != "undecided")


@pytest.mark.parametrize(
    ("values", "change", "message"),
    [
        ([], {}, "has no values; expected one value per replicate"),
        ([0.1, np.nan], {}, "the value nan at replicate 1"),
        ([np.inf, 1], {}, "the value inf at replicate 0"),
        ([0.1, 0.1, 0.1], {}, "all replicates have the difference 0.1; expected some spread"),
        ([[0.1, 0.2]], {}, r"shape \(1, 2\); expected one value per replicate"),
        ([0.1, 0.2], {"margin": np.nan}, "margin = nan; expected a finite number"),
        ([0.1, 0.2], {"kind": "equal"}, "margin = 0.0; .* above 0"),
        ([0.1, 0.2], {"kind": "less"}, "kind = 'less'; expected 'greater' or 'equal'"),
        ([0.1, 0.2], {"against": []}, "against has no values"),
        ([0.1, 0.1], {"against": [0.3, 0.3]}, "some spread"),
    ],
)
def test_a_claim_that_cannot_be_decided_is_refused_in_words(values, change, message):
    with pytest.raises(ValueError, match=f"claim 'toy-a': .*{message}"):
        evidence.make_claim("toy-a", "A beats B.", values, **change)


@pytest.mark.parametrize("kind", ["greater", "equal"])
@pytest.mark.parametrize("change", [{}, {"against": [0.3]}, {"against": [0.3, 0.4]}])
@pytest.mark.parametrize("value", [-5.0, 0.0, 5.0])
def test_a_claim_of_one_replicate_is_undecided(value, change, kind):
    found = evidence.make_claim("toy-a", "A beats B.", [value], kind=kind, margin=0.1, **change)
    assert found.alone == "undecided"
    assert found.p >= 0.5
    assert (found.low, found.high) == (-np.inf, np.inf)
    assert "no interval, 1" in found.line
    table = evidence.claims_table([found, evidence.make_claim("toy-b", "B.", [1.0, 1.1, 1.2])])
    assert table["verdict"].tolist() == ["undecided", "holds"]


def test_spread_that_is_only_rounding_is_none():
    with pytest.raises(ValueError, match="some spread"):
        verdicts.paired([0.1 + 0.2, 0.3, 0.3])


def test_one_sample_without_spread_is_enough_of_it():
    assert verdicts.independent([1.0, 2.0, 3.0], [0.5, 0.5]).freedom == pytest.approx(2)


def test_a_claim_is_one_line_with_numbers_interval_replicates_and_verdict():
    claim = evidence.make_claim("toy-a", "A  beats\nB.", [0.02, 0.03, 0.025], unit="nats")
    assert claim.line == (
        "**Claim: holds.** A beats B. Mean difference +0.025 nats; 95 % interval +0.0126 to "
        "+0.0374, 3 seeds."
    )
    claim = evidence.make_claim(
        "toy-b", "A equals B.", [0.1, 0.2], against=[0.1, 0.3, 0.2], kind="equal", margin=0.01,
        over="images",
    )  # fmt: skip
    assert claim.line.startswith("**Claim: undecided.** A equals B. Mean difference -0.05, ")
    assert "claimed within ±0.01;" in claim.line
    assert claim.line.endswith("2 and 3 images.")


# ------------------------------------------------------------------ Holm


def literal_holm(p, level):
    """Step down: reject the smallest at level / n, the next at level / (n - 1), until one stays."""
    rejected = set()
    for step, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[i] > level / (len(p) - step):
            break
        rejected.add(i)
    return rejected


@given(st.lists(st.floats(0, 1), max_size=8), st.sampled_from([0.01, 0.05, 0.2]))
def test_holms_correction_rejects_what_the_procedure_rejects(p, level):
    corrected = verdicts.holm(p)
    assert ((corrected >= p) & (corrected <= 1)).all()
    found = {i for i, value in enumerate(corrected) if value <= level}
    close = any(abs(x * k - level) < 1e-12 for x in p for k in range(1, len(p) + 1))
    assert close or found == literal_holm(p, level)


def test_correction_makes_verdicts_undecided_but_leaves_intervals():
    sure, close = [0.10, 0.11, 0.12, 0.11], [0.1, 0.2, 0.15]
    claims = [
        evidence.make_claim(f"toy-{i}", "A beats B.", values)
        for i, values in enumerate([sure, close, close])
    ]
    table = evidence.claims_table(claims)
    assert table["alone"].tolist() == ["holds"] * 3
    assert table["verdict"].tolist() == ["holds", "undecided", "undecided"]
    assert table["p_holm"].tolist() == pytest.approx(verdicts.holm(table["p"]).tolist())
    alone = verdicts.paired(close)
    assert table.loc[1, ["low", "high"]].tolist() == pytest.approx(alone.interval(0.95))
    assert evidence.claims_table([]).empty


# ------------------------------------------------------------------ published numbers


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (Difference(0.001, 0.001, 9), "agrees"),
        (Difference(0.008, 0.001, 9), "agrees"),  # different, by less than matters
        (Difference(0.030, 0.001, 9), "differs"),
        (Difference(0.019, 0.001, 9), "differs"),  # not shown to be within the margin
        (Difference(0.001, 0.020, 9), "undecided"),
        (Difference(0.076, 0.040, 2), "undecided"),
    ],
)
def test_agreement_is_equivalence_or_else_a_difference_or_neither(difference, verdict):
    assert verdicts.agreement(difference) == verdict
    mirrored = Difference(-difference.mean, difference.error, difference.freedom)
    assert verdicts.agreement(mirrored) == verdict


@given(st.floats(-0.05, 0.05), st.integers(2, 20))
def test_noise_never_turns_a_difference_into_agreement(mean, freedom):
    of_errors = [verdicts.agreement(Difference(mean, e, freedom)) for e in np.geomspace(1e-4, 1)]
    order = [found != "agrees" for found in of_errors]
    assert order == sorted(order)
    assert of_errors[-1] == "undecided"


def test_every_published_nmi_names_its_average_and_every_quoted_cell_its_source():
    rows = report.printed()
    assert not rows["metric"].eq("nmi").any()
    assert not rows.duplicated(comparison.CELL).any()
    assert (rows["split"] != "").all()
    by_cell = rows.set_index(comparison.CELL)
    quoted = rows[rows["source"] != ""]
    assert set(quoted["method"]) == {"DESOM", "SOM-VAE"}
    for row in quoted.itertuples():
        origin = by_cell.loc[(row.source, row.data, row.method, row.metric)]
        assert (origin.published, origin.split, origin.source) == (row.published, row.split, "")


def test_a_table_that_no_paper_has_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"no table 'desom table 9'.*'dc-somrl table 1'"):
        report.printed("desom table 9")
    assert report.printed("desom table 2", "digits").empty


STATED = pd.DataFrame(
    [
        ("p table 1", "mnist", "a", "purity", 0.90, np.nan, 10, "all images", ""),
        ("p table 1", "mnist", "b", "purity", 0.80, 0.01, 10, "all images", ""),
        ("p table 1", "mnist", "b", "nmi (geometric)", 0.60, np.nan, np.nan, "all images", ""),
        ("p table 1", "mnist", "c", "nmi (arithmetic)", 0.50, np.nan, 10, "test images", ""),
        ("p table 1", "mnist", "d", "purity", 0.70, np.nan, 10, "all images", "q table 1"),
        ("p table 1", "mnist", "e", "accuracy", 0.70, np.nan, 10, "all images", ""),
    ],
    columns=[*comparison.CELL, "published", "sd", "runs", "split", "source"],
)


def kept(method, metric="purity", values=(0.90, 0.901, 0.899), **texts):
    texts = {"protocol": "all images"} | texts
    return evidence.long_format(
        "p table 1", method, "mnist", {metric: values}, seeds=range(len(values)), **texts
    )


def verdict(rows, method):
    table = report.compared(evidence.values_table(rows), STATED)
    (row,) = table[table["method"] == method].to_dict("records")
    return row


def test_a_row_has_both_numbers_their_difference_and_its_interval():
    row = verdict(kept("a"), "a")
    assert (row["published"], row["runs"], row["verdict"]) == (0.90, 3, "agrees")
    assert (row["within .01"], row["lines"]) == ("agrees", "2–4")
    assert row["± sd"] == pytest.approx(np.std([0.90, 0.901, 0.899]))
    assert row["note"] == "published spread assumed to be ours"
    half = stats.t.ppf(0.975, 2) * 0.001 * math.sqrt(1 / 3 + 1 / 10)
    assert (row["low"], row["high"]) == pytest.approx((-half, half))


def test_a_margin_decides_between_the_two_verdicts_that_are_shown():
    row = verdict(kept("a", values=(0.911, 0.912, 0.913)), "a")
    assert (row["verdict"], row["within .01"]) == ("agrees", "differs")


def test_without_a_spread_there_is_no_verdict_and_the_difference_is_shown():
    row = verdict(kept("a", values=(0.95,)), "a")
    assert (row["verdict"], row["runs"]) == ("one run", 1)
    assert row["difference"] == pytest.approx(0.05)
    assert np.isnan(row["low"])
    assert np.isnan(row["± sd"])
    assert verdict(kept("a", values=(0.95, 0.95)), "a")["verdict"] == "no spread"
    both = report.compared(evidence.values_table(kept("b", values=(0.8, 0.8))), STATED)
    assert both.query("method == 'b' and metric == 'purity'")["verdict"].item() == "agrees"


@pytest.mark.parametrize(
    ("metric", "protocol"),
    [
        ("nmi (geometric)", "test images"),
        ("nmi (arithmetic)", "all images"),
        ("nmi (geometric)", ""),
    ],
)
def test_other_metrics_averages_and_images_get_no_verdict(metric, protocol):
    row = verdict(kept("c", metric, protocol=protocol), "c")
    assert row["verdict"] == "other protocol"
    assert row["note"] == f"ours: {metric}, {protocol or 'images not named'}"
    assert np.isnan(row["difference"])


def test_quoted_rows_point_to_their_source_and_are_not_compared_twice():
    row = verdict(kept("d"), "d")
    assert (row["verdict"], row["note"]) == ("quoted", "quoted from q table 1")
    assert np.isnan(row["difference"])


def test_purity_is_no_accuracy_and_what_was_not_run_says_so():
    assert verdict(kept("e", "purity"), "e")["verdict"] == "not run"
    assert verdict(kept("z"), "z")["verdict"] == "not published"


def test_what_was_changed_stands_beside_the_number_and_the_unchanged_is_preferred():
    short = kept("a", values=(0.80, 0.81), changed="2000 iterations instead of 10 000")
    assert verdict(short, "a")["changed"] == "2000 iterations instead of 10 000"
    row = verdict(short + kept("a"), "a")
    assert (row["changed"], row["ours"], row["lines"]) == ("", pytest.approx(0.90), "4–6")
    nine = kept("a", values=(0.5, 0.6), protocol="all images; k = 9")
    assert verdict(nine + short, "a")["protocol"] == "all images; k = 9"
    assert verdict(nine + kept("a"), "a")["protocol"] == "all images"


@pytest.mark.parametrize(
    ("ours", "metric", "protocol", "message"),
    [
        ("b", "nmi (arithmetic)", "all images", r"b: published is nmi \(geometric\) on all images"),
        ("a", "purity", "test images", "a: published is purity on all images, ours purity on test"),
        ("a", "purity", "", "images that are not named"),
        ("a", "", "all images", "metric '': that table prints 'purity', "),
        ("a", "recall", "all images", "metric 'recall'"),
    ],
)
def test_a_comparison_of_unlike_numbers_is_refused(ours, metric, protocol, message):
    with pytest.raises(ValueError, match=message):
        report.versus_published({ours: [0.5, 0.6]}, STATED, metric=metric, protocol=protocol)


def test_a_comparison_with_bare_numbers_or_two_tables_is_refused():
    with pytest.raises(ValueError, match="bare numbers"):
        report.versus_published({"a": [0.5, 0.6]}, {"a": 0.5}, metric="purity")
    two = pd.concat([STATED, STATED.assign(data="fashion-mnist")])
    with pytest.raises(ValueError, match="several tables or data sets"):
        report.versus_published({"a": [0.5, 0.6]}, two, metric="purity", protocol="all images")


def test_one_column_is_compared_as_the_whole_table_is():
    ours = {"a": [0.90, 0.901, 0.899], "new": [0.5], "none": []}
    found = report.versus_published(ours, STATED, metric="purity", protocol="all images; 64 units")
    assert found["verdict"].to_dict() == {
        "a": "agrees", "b": "not run", "d": "quoted", "new": "not published",
    }  # fmt: skip
    nothing = report.versus_published({"a": [0.5, 0.7]}, {})
    assert nothing.loc["a", ["ours", "runs", "verdict"]].tolist() == [0.6, 2, "not published"]


# ------------------------------------------------------------------ values of seeds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrics": {"nmi": [0.5, 0.6]}}, r"'nmi' names no average.*'nmi \(arithmetic\)'"),
        ({"metrics": {"purity": [0.5]}}, r"shape \(1,\); expected one value for each of the 2"),
        ({"metrics": {"purity": [0.5, np.nan]}}, "purity of seed 4 is nan; .*leave its seed out"),
        ({"metrics": {}}, "no metrics"),
        ({"seeds": [3, 3]}, r"seeds = \[3, 3\]; expected .* each only once"),
        ({"seeds": []}, r"seeds = \[\]"),
        ({"method": " "}, "method = ' '; expected its name"),
        ({"data": None}, "data = None"),
    ],
)
def test_values_that_would_mislead_are_refused(change, message):
    given = {"experiment": "e", "method": "m", "data": "digits", "seeds": [3, 4]}
    given |= {"metrics": {"purity": [0.5, 0.6]}} | change
    with pytest.raises(ValueError, match=message):
        evidence.long_format(**given)


def test_lines_are_those_of_the_file(tmp_path):
    rows = [x for m in "ab" for x in kept(m)] + kept("a", "accuracy")
    table = evidence.values_table(rows)
    path = tmp_path / "01_toy.csv"
    table.to_csv(path, index=False)
    text = path.read_text().splitlines()
    for part in comparison.summarized(table).itertuples():
        first, last = map(int, part.lines.split("–"))
        cited = pd.read_csv(path).iloc[first - 2 : last - 1]
        assert len(text[first - 1 : last]) == part.runs
        assert set(zip(cited["method"], cited["metric"], strict=True)) == {
            (part.method, part.metric)
        }
        assert cited["value"].mean() == pytest.approx(part.mean)
    assert comparison._ranges(np.array([2, 3, 5, 7, 8])) == "2–3, 5, 7–8"


def test_files_of_all_notebooks_are_read_as_they_were_written(tmp_path):
    tables = {
        name: evidence.values_table(kept("NA", changed="", protocol=name)) for name in ("b", "a")
    }
    for name, table in tables.items():
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    (tmp_path / ".partial-c.csv").write_text("half")
    found = evidence.read(tmp_path)
    assert found["notebook"].tolist() == ["a"] * 3 + ["b"] * 3
    assert set(found["method"]) == {"NA"}
    assert (found["changed"] == "").all()
    assert found["value"].tolist() == [0.90, 0.901, 0.899] * 2
    assert evidence.read(tmp_path / "nowhere").empty
