"""Checks of a script's data, of its loop and of its effect, from the batches that were seen."""

from __future__ import annotations

import math
import re

from finetune_compat.checks import rules
from finetune_compat.checks.engine import NotApplicable
from finetune_compat.checks.script_labels import FEWEST_ROWS, lesson_of
from finetune_compat.contract.records import Training
from finetune_compat.contract.script import Run, Seen

FEW = 0.25
"""Share of the rows that must differ. Data sets may have rows twice, such as rare classes."""

OFTEN = 0.4
"""Share of batches that may equal the batch before: with two workers that share a seed, half of them do."""

LEAKED = 0.5
"""Share of held-out rows that may be training rows: short rows may occur in both by chance."""

FEWEST_CLASS_LABELS = 16
"""Of two classes, 16 rows are of one by chance once in 30,000 trainings."""

RISE = 1.01
"""Factor by which the loss of the first batch may rise. Other batches may harm it; ten of them help it on the whole."""

FEWEST_BATCHES = 4

LITTLE = 1e-3
"""Least share of the asked learning rate that some step must have."""


def _seen(run: Run) -> Seen:
    if run.seen_batches is None:
        raise NotApplicable("no batch of a trainer was seen")
    return run.seen_batches


def _training(run: Run) -> Training:
    if run.seen.training is None:
        raise NotApplicable("no completed training was seen")
    return run.seen.training


def rows_repeated(run: Run) -> str | None:
    """B105: the rows of a training differ."""
    seen = _seen(run)
    if run.rewarded or seen.batches < FEWEST_BATCHES:
        raise NotApplicable("completions are sampled, or too few batches with tokens were seen")
    if run.trainer is None and seen.data_rows is None:
        raise NotApplicable("no loader was seen: a script may train on one batch")
    whole = seen.data_rows is not None and seen.data_rows * seen.batches <= seen.rows  # every batch has all rows
    if seen.same_as_last >= OFTEN * seen.batches and not whole:
        return f"{seen.same_as_last} of {seen.batches} batches have the same rows as the batch before"
    if seen.data_rows is None:
        return None
    expected = min(seen.rows, seen.data_rows)
    if seen.distinct > FEW * expected:
        return None
    return f"the same rows are repeated: {seen.rows} rows of a data set of {seen.data_rows} were {seen.distinct} rows"


def held_out_trained(run: Run) -> str | None:
    """B106: held-out rows are not trained on."""
    seen = _seen(run)
    if seen.held_out_part:
        return _cut_and_left(seen, run.metric)
    if seen.held_out < FEWEST_ROWS:
        raise NotApplicable("training rows and held-out rows could not be compared")
    if seen.held_out_trained == seen.held_out and not seen.held_out_copies:
        raise NotApplicable("all rows of the evaluation set are training rows, as where a script watches its training")
    if seen.held_out_trained <= LEAKED * seen.held_out:
        return None
    copied = seen.held_out_copies
    how = f". Rows were copied before the split: {copied} of a kind lie on both sides of it" if copied else ""
    return (
        f"{seen.held_out_trained} of {seen.held_out} held-out rows are training rows too: eval loss shows memory{how}"
    )


def _cut_and_left(seen: Seen, metric: str) -> str:
    """What is wrong with an evaluation set that was cut from the training set and left in it.

    Raises:
        NotApplicable: nothing shows that it was to be held out. A script may measure how far the model fits its rows.
    """
    shared = f"the evaluation set is the {seen.held_out_part} of the training set, which still has these rows"
    if seen.held_out_name:
        return f"{shared}, and the script calls it {seen.held_out_name!r}: eval loss shows memory"
    if metric:
        return (
            f"{shared}, and {metric.partition(' ')[2]} on it chooses the best checkpoint: the one that memorises most"
        )
    raise NotApplicable(f"{shared}, and the script does not say that it is held out: eval loss shows fit to these rows")


def one_sided(run: Run) -> str | None:
    """L506: labels of rows differ, and so do the two rows of a pair."""
    seen = _seen(run)
    if seen.pairs >= FEWEST_ROWS and seen.pairs_alike == seen.pairs:
        return f"chosen and rejected are the same tokens in all {seen.pairs} pairs: there is no margin to learn"
    if seen.class_labels < FEWEST_CLASS_LABELS:
        raise NotApplicable("no pairs, and too few rows with one label each")
    if seen.classes > 1:
        return None
    return f"all {seen.class_labels} rows have the same label: there is one class, and nothing to tell apart"


def foreign(run: Run) -> str | None:
    """L507: labels of a causal language model are the tokens of their row."""
    lesson = lesson_of(run)
    if not lesson.shifts:
        raise NotApplicable("no causal language model of Transformers received the labels")
    if 2 * lesson.foreign <= lesson.labels:
        return None
    shown = f"; first row, with what is learned in brackets: {lesson.shown}" if lesson.shown else ""
    return f"{lesson.foreign} of {lesson.labels} labels are not the token of their row at that position{shown}"


def gradients_kept(run: Run) -> str | None:
    """G408: each step begins without gradients of the step before."""
    seen = _seen(run)
    if seen.stale_from is None:
        return None
    return (
        f"gradients are not cleared between steps: step {seen.stale_from} used those of the step before, summed with "
        f"its own"
    )


def rate_dies(run: Run) -> str | None:
    """O303: the learning rate is above 0 until training ends."""
    training = _training(run)
    rates = training.learning_rate
    zeros = next((place for place, rate in enumerate(reversed(rates)) if rate > 0), len(rates))
    if len(rates) < FEWEST_BATCHES:
        raise NotApplicable("too few steps")
    if zeros > 1 and (run.steps_left or run.trainer is None):
        left = f", with {run.steps_left} more steps left" if run.steps_left else ""
        return f"the schedule's learning rate is 0 from step {len(rates) - zeros + 1} of {len(rates)} on{left}"
    if run.full_rate and run.steps_left < 10 * len(rates) and 0 < max(rates) < LITTLE * run.full_rate:
        return (
            f"warm-up does not end before training does: the learning rate reaches {max(rates):.2g} in {len(rates)} "
            f"steps, {run.full_rate:.2g} is asked for, and {run.steps_left} steps are left"
        )
    return None


def half_precision(run: Run) -> str | None:
    """O304: trained weights are not float16."""
    census = next((taken for taken in run.seen.stages if taken.name == "trainer"), None)
    if census is None:
        raise NotApplicable("no census at trainer")
    active = census.adapter_dtypes if run.asks_for_adapters else tuple(census.dtypes)
    if "float16" not in active or (not run.asks_for_adapters and census.trainable != census.total):
        return None
    return "the trained weights are float16: Adam's epsilon and small updates are 0 there"


def evaluation_repeats(run: Run) -> str | None:
    """E810: an evaluation computes the same logits twice."""
    alike = _seen(run).evaluates_alike
    if alike is None:
        raise NotApplicable("no evaluation was seen")
    if alike:
        return None
    return "one batch of an evaluation, computed twice, has other logits: dropout is active in evaluation"


def likelier(run: Run) -> str | None:
    """E811: training makes the tokens that it trains on likelier."""
    seen = _seen(run)
    first = seen.first_batch
    if first is None or run.rewarded:
        raise NotApplicable("no batch of a causal language model has a label for each token")
    training = _training(run)
    if len(training.grad_norm) < FEWEST_BATCHES:
        raise NotApplicable("too few steps")
    before, after = first
    # A preference loss may make both rows of a pair less likely, and KTO undesirable ones.
    if math.isfinite(after) and after <= before * (rules.DIVERGED if seen.pairs or seen.class_labels else RISE):
        return None
    return (
        f"the labelled tokens of the first batch become less likely: their loss rises from {before:.4f} to "
        f"{after:.4f}. The loss that is trained goes up, has the wrong sign, or compares other tokens"
    )


def accumulated_once(run: Run) -> str | None:
    """E812: the logged loss is that of a batch, not multiplied or divided by the accumulated batches."""
    first, every = _seen(run).first_batch, run.accumulation
    losses = _training(run).loss
    if first is None or not losses or not every or every == 1 or not first[0]:
        raise NotApplicable("no accumulation, or no loss of a first batch to compare with")
    ratio = losses[0] / first[0]
    if not (_near(ratio, every) or _near(ratio, 1 / every)):
        return None
    done = "summed and not divided" if ratio > 1 else "divided once more"
    return (
        f"the first logged loss is {losses[0]:.4f}, and the first batch's is {first[0]:.4f}: over {every} accumulated "
        f"batches, loss and gradients are {done}"
    )


_ABOUT = 0.15
"""Largest difference of two logarithms of what counts as the same factor. The first batch is one of several."""


def _near(ratio: float, factor: float) -> bool:
    return ratio > 0 and abs(math.log(ratio / factor)) < _ABOUT


SAME = "policy and reference, or the two rows of each pair, are the same"
"""What a preference loss of ln 2 means."""


def loss_moves(run: Run) -> str | None:
    """E813: training changes the train loss."""
    losses = _training(run).loss
    if run.rewarded or len(losses) < FEWEST_BATCHES:
        raise NotApplicable("the gradient comes from rewards, or too few losses were logged")
    texts = {f"{loss:.{rules.DECIMALS}f}" for loss in losses}
    if len(texts) > 1:
        return None
    equal = math.isclose(losses[0], math.log(2), abs_tol=1e-6)
    why = f", which is ln 2: {SAME}" if equal else ""
    return f"the train loss is {losses[0]:.{rules.DECIMALS}f} in all {len(losses)} entries{why}"


def best_is_best(run: Run) -> str | None:
    """E814: the best checkpoint has the best metric."""
    if not run.metric:
        raise NotApplicable("no best checkpoint is chosen")
    greater, _, name = run.metric.partition(" ")
    if greater == "greater" and re.search(r"loss|perplexity", name):
        return f"greater_is_better is True for {name}: the worst checkpoint is loaded as the best"
    return None


def best_is_put_back(run: Run) -> str | None:
    """E816: the weights that are put back at the end are those that were kept."""
    found = run.put_back
    if found is not None and found.itself:
        return (
            "the script loads the model's own tensors into the model, so the best weights are not restored: "
            "state_dict() gives references, and no copies"
        )
    if found is None or not found.compared:
        raise NotApplicable("no best checkpoint was loaded")
    if not found.differ:
        return None
    return (
        f"load_best_model_at_end does not load the best checkpoint: {found.differ} of {found.compared} trained tensors "
        f"do not get its values"
    )


def pairs_the_same_way(run: Run) -> str | None:
    """E817: training does not turn the preference on held-out pairs around."""
    rows, pairs = run.rows_evaluated, _seen(run).pairs
    if run.accuracy is None or not rows or not pairs or run.rewarded:
        raise NotApplicable("no accuracy on pairs was reported")
    before, after = run.accuracy
    training = _training(run)
    if training.eval_before is None or training.eval_after is None or training.eval_after <= training.eval_before:
        return None
    right = round(after * rows)
    chance = sum(math.comb(rows, count) for count in range(right + 1)) / 2**rows
    # A policy that is its own reference prefers no row: every pair is a tie, and the accuracy is 0.
    ties = math.isclose(training.eval_before, math.log(2), abs_tol=1e-6)
    if (after >= before and not ties) or chance > BY_CHANCE:
        return None
    earlier = "they were ties" if ties else f"in {round(before * rows)}"
    return (
        f"on {rows} held-out pairs the chosen row is preferred in {right} (before training {earlier}), which is fewer "
        f"than chance gives: chosen and rejected are swapped in the training or in the held-out rows"
    )


BY_CHANCE = 1e-3
"""Largest probability of so few preferred pairs, if each is a coin toss: so are the pairs of a model that memorises its
rows. Its eval loss must have risen too.
"""


def metrics_ask_the_model(run: Run) -> str | None:
    """E815: metrics depend on the predictions."""
    vary = _seen(run).metrics_vary
    if vary is None:
        raise NotApplicable("the script computes no metrics of predictions")
    if vary:
        return None
    return "compute_metrics gives the same result for random predictions: it does not look at what the model predicts"


def rewards_differ(run: Run) -> str | None:
    """G409: completions have different rewards."""
    seen = run.seen_batches
    if seen is not None and seen.in_groups >= FEWEST_ROWS and seen.in_groups_alike == seen.in_groups:
        return (
            f"all {seen.in_groups} completions are the same tokens as the others of their prompt: sampling has no "
            f"choice (top_k, temperature), so rewards are the same, advantages are 0 and no gradient is left"
        )
    if not run.rewarded or not run.reward:
        raise NotApplicable("no rewards were logged")
    if len(run.reward) < FEWEST_BATCHES or not run.rewards_alike or len(set(run.reward)) > 1:
        return None
    return (
        f"the reward is {run.reward[0]:.4g} for every completion in all {len(run.reward)} steps: the reward function "
        f"is constant, and no gradient is left"
    )


def saved_is_trained(run: Run) -> str | None:
    """A207: what the script saves after training was trained, and loads with the strength it was trained with."""
    if run.saved_as == "untrained":
        return "every tensor that the script saves after training has the value it had before: what was trained is lost"
    if run.saved_as == "early":
        return "the script saves the model before training, and not after it: what was trained is lost"
    if run.saved_as.startswith("changed"):
        return f"the saved adapter_config.json was changed after it was saved: {run.saved_as.partition(' ')[2]}"
    if not run.saved_as:
        raise NotApplicable("the script saved nothing after training")
    return None


def loads_alike(run: Run) -> str | None:
    """A203: what was saved after training gives the same logits when it is loaded again."""
    if run.unscaled:
        return f"the weights that the script merged by itself and saved have an update that is {run.unscaled}"
    for one in run.reloads:
        if one.difference is None:
            return f"the saved {one.what} cannot be loaded again: {one.error}"
        if one.difference > one.allowed:
            return (
                f"the saved {one.what}, loaded again, gives other logits than the trained one: they differ by "
                f"{one.difference:.2g} of the largest, and rounding explains {one.allowed:.2g}"
            )
    if not run.reloads:
        raise NotApplicable("nothing that was saved after training could be loaded again and compared")
    return None


def computed_as_asked(run: Run) -> str | None:
    """D803: the model is loaded and trained in the precision asked for."""
    found = run.computed
    if found is None or not (found.asked or found.load_asked):
        raise NotApplicable("no precision was asked for")
    if found.load_asked and found.load_found and found.load_asked not in found.load_found:
        kinds = " and ".join(found.load_found)
        return f"the model was to be loaded in {found.load_asked}, and its weights are {kinds}"
    if found.asked and found.seen and found.asked not in found.seen:
        kinds = " and ".join(found.seen)
        return f"training is to compute in {found.asked}, and its linear layers compute in {kinds}"
    return None


def ranks_agree(run: Run) -> str | None:
    """W704: all processes that train together end with the same weights."""
    if not run.ranks:
        raise NotApplicable("one process trains")
    if not run.ranks_differ:
        return None
    return (
        f"after training, {run.ranks_differ} of {run.ranks} other processes hold other weights than rank 0: gradients "
        f"are not exchanged, or each process changes its weights by itself"
    )
