"""The exclusion rules: ordered, the first match wins, words judge classes and not layer names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecipes.arithmetic.decay_rules import (
    DEFAULT_EXCLUDE,
    WORDS,
    Report,
    Weight,
    check_rules,
    decide,
    decide_again,
    mask,
)

DENSE = Weight("dense/kernel", 2, ("Dense",))
BIAS = Weight("dense/bias", 1, ("Dense",))
BN_NAMED_DENSE = Weight("batch_norm/kernel", 2, ("Dense",))
GAMMA = Weight("bn/gamma", 1, ("BatchNormalization",))
UNKNOWN_GAMMA = Weight("block/gamma", 4, None)
EMBEDDING = Weight("tokens/embeddings", 2, ("Embedding",))
ALPHA = Weight("act/alpha", 3, ("PReLU",))

CASES = [
    # exclude, weight, decayed, rule
    (DEFAULT_EXCLUDE, DENSE, True, ""),
    (DEFAULT_EXCLUDE, BIAS, False, "bias"),
    (DEFAULT_EXCLUDE, Weight("gru/gru_cell/bias", 2, ("GRUCell",)), False, "bias"),
    (DEFAULT_EXCLUDE, BN_NAMED_DENSE, True, ""),
    (DEFAULT_EXCLUDE, Weight("bias_net/kernel", 2, None), True, ""),
    (DEFAULT_EXCLUDE, GAMMA, False, "norm"),
    (DEFAULT_EXCLUDE, EMBEDDING, True, ""),
    (DEFAULT_EXCLUDE, ALPHA, False, "prelu"),
    (DEFAULT_EXCLUDE, Weight("act/alpha", 3, None), False, "prelu"),
    (DEFAULT_EXCLUDE, Weight("mix/alpha", 2, ("Mixer",)), True, ""),
    (DEFAULT_EXCLUDE, Weight("logit_scale", 0, None), False, "ndim<2"),
    (DEFAULT_EXCLUDE, Weight("temperature", 0, None), False, "ndim<2"),
    (("norm",), UNKNOWN_GAMMA, False, "norm"),
    (("norm",), Weight("block/scale", 2, None), False, "norm"),
    (("norm",), Weight("mix/gamma", 2, ("Mixer",)), True, ""),
    (("norm",), Weight("ln/weight", 2, ("MyNorm", "LayerNormalization")), False, "norm"),
    (("norm",), Weight("spectral/kernel", 2, ("SpectralNormalization", "Wrapper")), True, ""),
    (("embedding",), EMBEDDING, False, "embedding"),
    (("embedding",), Weight("pos/embeddings", 2, None), False, "embedding"),
    (("embedding",), Weight("embedding/kernel", 2, ("Dense",)), True, ""),
    (("type:Dense",), BN_NAMED_DENSE, False, "type:Dense"),
    (("type:Dense",), Weight("d/kernel", 2, ("MyDense", "Dense")), False, "type:Dense"),
    (("!dense/kernel", "type:Dense"), DENSE, True, "!dense/kernel"),
    (("type:Dense", "!dense/kernel"), DENSE, False, "type:Dense"),
    (("!norm", "ndim<2"), GAMMA, True, "!norm"),
    (("!type:Dense", "bias"), BIAS, True, "!type:Dense"),
    (("kernel$",), DENSE, False, "kernel$"),
    (("^dense",), DENSE, False, "^dense"),
    ((), BIAS, True, ""),
]


@pytest.mark.parametrize(("exclude", "weight", "decayed", "rule"), CASES)
def test_first_matching_rule_decides(exclude, weight, decayed, rule):
    (decision,) = decide(exclude, [weight])
    assert decision == (weight.path, decayed, rule)


@pytest.mark.parametrize(
    "name",
    ["BatchNormalization", "LayerNormalization", "GroupNormalization", "RMSNormalization"],
)
def test_every_normalisation_class_of_keras_is_a_norm(name):
    assert not decide(("norm",), [Weight("a/b", 4, (name,))])[0].decayed
    assert not decide(("norm",), [Weight("a/b", 4, ("Mine", name))])[0].decayed


def test_rule_that_matches_nothing_names_itself_and_the_first_paths():
    weights = [DENSE, BIAS, GAMMA, EMBEDDING]
    message = (
        "Decay rule 'dense/gamma$' matches none of the 4 weights. "
        "First paths: dense/kernel, dense/bias, bn/gamma."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        decide(("bias", "dense/gamma$"), weights)


def test_type_that_matches_nothing_names_the_classes_there_are():
    with pytest.raises(ValueError, match=r"'type:Dens' matches none.*Dense, BatchNormalization"):
        decide(("type:Dens",), [DENSE, BIAS, GAMMA])


def test_rule_shadowed_by_an_earlier_one_is_no_error():
    assert [d.rule for d in decide(("bias", "dense/bias"), [DENSE, BIAS])] == ["", "bias"]


def test_rule_that_matches_nothing_is_no_error_where_nothing_decays():
    assert decide(("nowhere",), [DENSE], must_match=False)[0].decayed


@pytest.mark.parametrize("exclude", ["bias", 3, [3], [""], ["!"], ["type:"], [None], ["foo("]])
def test_bad_rules_get_one_sentence(exclude):
    with pytest.raises(ValueError, match=r"^exclude: .* Received: exclude=.*\. .*\.$"):
        check_rules(exclude)


def test_none_means_no_rules():
    assert check_rules(None) == ()


def test_report_names_every_weight_and_counts():
    decisions = decide(DEFAULT_EXCLUDE, [DENSE, BIAS, GAMMA, EMBEDDING])
    text = str(
        Report("AdamW, weight_decay=0.05", tuple(decisions), not_trained=("bn/moving_mean",))
    )
    for path in ("dense/kernel", "dense/bias", "bn/gamma", "tokens/embeddings", "bn/moving_mean"):
        assert len(re.findall(rf"^{path} ", text, re.MULTILINE)) == 1
    assert (
        "AdamW, weight_decay=0.05: 2 of 4 trained weights decay, 2 do not (bias 1, norm 1)" in text
    )
    assert re.search(r"^dense/kernel +yes", text, re.MULTILINE)
    assert re.search(r"^dense/bias +no +bias", text, re.MULTILINE)
    assert re.search(r"^bn/moving_mean +no +not trained", text, re.MULTILINE)


def test_saved_mask_holds_and_only_new_weights_are_judged():
    saved = mask(decide(("kernel$",), [DENSE, BIAS]))
    assert saved == {"dense/kernel": "kernel$", "dense/bias": ""}
    new = decide_again(("bias", "norm"), [DENSE, BIAS, GAMMA], saved)
    assert [(d.decayed, d.rule) for d in new] == [(False, "kernel$"), (True, ""), (False, "norm")]


def test_rule_need_not_match_again_where_every_verdict_is_saved():
    saved = mask(decide(("kernel$",), [DENSE]))
    assert decide_again(("gone",), [DENSE], saved)[0].rule == "kernel$"
    with pytest.raises(ValueError, match="'gone' matches none of the 2 weights"):
        decide_again(("gone",), [DENSE, BIAS], saved)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["wrap/inner/kernel", "wrap/inner/bias"], ["inner/kernel", "inner/bias"]),
        (
            ["sub_1/dense_1/kernel", "sub_1/dense_2/kernel"],
            ["sub/dense/kernel", "sub/dense_1/kernel"],
        ),
        # dense_1 is the first before and the second after
        (["dense_1/kernel", "dense_2/kernel"], ["dense/kernel", "dense_1/kernel"]),
    ],
)
def test_verdicts_hold_where_keras_names_the_same_layers_anew(before, after):
    first, second = (Weight(path, 2, None) for path in after)
    saved = dict(zip(before, ["first rule", ""], strict=True))
    decisions = decide_again(("gone",), [first, second], saved)
    assert [d.rule for d in decisions] == ["first rule", ""]


def test_verdicts_do_not_pass_to_layers_of_other_names():
    weights = [Weight("c/kernel", 2, None), Weight("d/kernel", 2, None)]
    saved = {"a/kernel": "kernel", "b/kernel": ""}
    assert [d.rule for d in decide_again(("^c",), weights, saved)] == ["^c", ""]


def test_two_weights_of_one_path_keep_their_own_verdicts():
    twins = [Weight("d/gamma", 2, ("Dense",)), Weight("d/gamma", 2, ("LayerNormalization",))]
    decisions = decide(("norm",), twins)
    assert mask(decisions) == {"d/gamma": "", "d/gamma#2": "norm"}
    assert decide_again((), twins, mask(decisions)) == decisions


PARTS = st.sampled_from(["dense", "bias", "gamma", "norm", "alpha", "embeddings", "kernel", "x"])
OWNERS = st.none() | st.lists(
    st.sampled_from(["Dense", "Mine", "PReLU", "Embedding", "LayerNormalization"]), min_size=1
).map(tuple)
WEIGHTS = st.builds(
    Weight, st.lists(PARTS, min_size=1, max_size=3).map("/".join), st.integers(0, 4), OWNERS
)


@given(
    st.lists(st.sampled_from([*WORDS, *("!" + word for word in WORDS)])),
    st.lists(WEIGHTS, max_size=6),
)
def test_a_word_never_raises_and_the_order_decides(exclude, weights):
    whole = decide(exclude, weights)
    for weight, decision in zip(weights, whole, strict=True):
        alone = [r for r in exclude if decide((r.removeprefix("!"),), [weight])[0].rule]
        assert decision.rule == (alone[0] if alone else "")
        assert decision.decayed == (not alone or alone[0].startswith("!"))


@given(st.lists(PARTS, min_size=2, max_size=3), st.integers(2, 4))
def test_no_word_judges_a_layers_name(parts, ndim):
    weight = Weight("/".join([*parts[:-1], "kernel"]), ndim, ("Dense",))
    assert decide(WORDS, [weight])[0].decayed
