"""The model in CONTRIBUTING is complete: that very text trains, alone and for five seeds."""

import re
from pathlib import Path

import numpy as np
from sklearn.base import clone

from somlib import data
from somlib.training import fit_seeds

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
(MODEL,) = (block for block in BLOCKS if "class" in block)


def test_the_model_is_short_and_has_no_word_about_seeds():
    assert len(MODEL.splitlines()) <= 45
    assert "seed" not in MODEL
    assert "stack" not in MODEL


def test_it_trains_and_groups_alone_and_for_five_seeds():
    names = {"__name__": "contributed"}
    exec(MODEL, names)
    model = names["GaussianMixtureAutoencoder"](n_iter=100, hidden=(16,), latent_dim=4)
    X = data.load("digits").X[:300].astype(float)
    among = fit_seeds(model, X, range(5))
    for fitted in among:
        losses = fitted.history_["loss"]
        assert losses[-20:].mean() < losses[:20].mean()
        assert fitted.predict(X).shape == (300,)
        assert len(set(fitted.predict(X))) > 1
        assert np.isfinite(fitted.transform(X)).all()
    alone = clone(model).set_params(random_state=3).fit(X)
    for name, value in alone.parameters_.items():
        np.testing.assert_allclose(among[3].parameters_[name], value, atol=1e-9, err_msg=name)
