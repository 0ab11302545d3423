"""The sections of an experiment beside its layers: data, transform, solver."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, model_validator

from netspec.ir.balance import ClassWeights
from netspec.ir.duration import Duration
from netspec.ir.fields import (
    Fields,
    Flag,
    Int,
    NonNegative,
    NonNegativeReal,
    Positive,
    PositiveReal,
    Probability,
    Real,
    Says,
    Share,
    Text,
    Texts,
    many,
    real,
    shown,
    threshold,
    whole,
)
from netspec.ir.precision import Precision
from netspec.ir.schedule import conflict
from netspec.ir.transform import ColourOrder, Transform

MAX_WINDOW = 10_000
"""The most iterations that `average_loss` goes back: a checkpoint holds a number for each."""


class DataSection(Fields):
    """`data "train" { … }`: where a phase's samples come from."""

    source: Text = ""
    """An IDX folder or pair, CIFAR's folder or `.tar.gz`, an `.npz`, a `.csv`, a folder of images
    or a `.zip` of one, or `mnist` for the bundled digits.

    Or one of Caffe's: an LMDB, a `.txt` list of images and labels, an `.h5` file or a list of
    them. Relative to the spec; `--data` overrides it, relative to the working directory. Without
    any the samples come by `--data`.
    """
    backend: Literal["LEVELDB", "LMDB"] | None = None
    """The database that the source is said to be, as in Caffe: images are decoded as BGR."""
    batch_size: Positive
    """Samples per iteration."""
    shuffle: Flag | None = None
    """Whether each epoch has an order of its own; unless set, in training only."""
    rand_skip: NonNegative = 0
    """Training begins behind so many samples at most, drawn by lot."""
    val: Probability = 0.0
    """Share of the training data that is held out for validation; 0: none.

    Of each class alike where labels are classes, drawn by random_seed. The tests of a training then
    look at these samples, and `data "test"` is left to `netspec test`. A source with folders train,
    val and test needs none: training looks at val.
    """
    classes: Texts = ()
    """The names of the classes, label 0 first; they go into the model."""
    class_names: Text = ""
    """A file with a class's name a line, instead of `classes`; relative to the spec."""
    label: Text = ""
    """What the label is, where a source holds several: a column of a CSV, by its name or its number
    from 1; `fine_label` or `coarse_label` of CIFAR-100."""
    class_weights: ClassWeights = ()
    """What each class counts in the losses of TRAIN over labels that have no `class_weight`.

    BALANCED: n / (classes · n of the class) of the training samples, as scikit-learn has it, 0 for
    a class that has none.
    """
    arrays: Texts = ()
    """What the net calls the images and the labels, unless `data` and `label`."""
    root_folder: Text = ""
    """Where the paths of a list or a CSV begin, relative to the spec; unless given, beside it."""
    new_height: NonNegative = 0
    """What images of any size are brought to, with new_width; 0: all have one size already."""
    new_width: NonNegative = 0
    """What images of any size are brought to, with new_height."""
    is_color: Flag = True
    """Whether the images of a list are read as three channels, else as one."""
    cache: Literal["MEMORY", "NONE"] | None = None
    """Whether images are decoded once, to memory, or again for each batch, by threads ahead of it.

    Unless set, they go to memory if they take no more than half of what is free.
    """
    manifest: Text = ""
    """The file of `netspec data lock` that the source must match, relative to the spec; unless
    given, `<source>.lock` where that is beside it."""
    transform: Transform = Transform()
    """What happens to the values, carried out in the graph."""

    @model_validator(mode="after")
    def _consistent(self) -> DataSection:
        if bool(self.new_height) != bool(self.new_width):
            raise ValueError("takes new_height and new_width together")
        if self.classes and self.class_names:
            raise ValueError("takes classes or class_names, not both")
        if len(self.arrays) > 2:
            raise ValueError("arrays names the images and the labels, no more")
        return self

    @property
    def shuffled(self) -> bool:
        """Whether each epoch of a training has an order of its own."""
        return True if self.shuffle is None else self.shuffle

    @property
    def channel_order(self) -> ColourOrder | None:
        """How the section wants images decoded, as far as it says."""
        caffe = self.backend or self.source.endswith(".txt")
        return self.transform.channel_order or ("BGR" if caffe else None)


_Norm: TypeAlias = Annotated[
    float, BeforeValidator(threshold), Says("number above 0, or -1 for none")
]
_Window: TypeAlias = Annotated[
    int, BeforeValidator(whole(1, MAX_WINDOW)), Says(f"whole number from 1 to {MAX_WINDOW:,}")
]


class Solver(Precision):
    """`solver { … }`: how the weights are updated, for how long, and what is told meanwhile.

    The words are those of Caffe's `SolverParameter`, and so are the meanings but where a field says
    otherwise; Caffe's order within an update is clip_gradients, iter_size, weight_decay, the rule.
    """

    type: Literal["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam", "AdamW"] = "SGD"
    """The rule of the update; AdamW, which Caffe lacks, is PyTorch's."""
    arithmetic: Literal["CAFFE", "PYTORCH"] = "CAFFE"
    """Whose arithmetic, where the two differ: PyTorch has lr outside of the momentum of SGD and
    Nesterov, corrects Adam's √v before it adds delta, and knows RMSProp with momentum."""
    base_lr: PositiveReal
    """The learning rate that the policy starts from."""
    lr_policy: Literal[
        "fixed", "step", "multistep", "inv", "exp", "poly", "sigmoid",
        "inverse_time", "cosine", "plateau", "one_cycle",
    ] = "fixed"  # fmt: skip
    """How the rate follows the iteration: Caffe's seven, 1 / (1 + gamma·t), and PyTorch's
    CosineAnnealingLR over all iterations, ReduceLROnPlateau by the tests' score, and OneCycleLR,
    whose peak is base_lr and which leaves the momentum alone."""
    lr_unit: Literal["ITERATION", "EPOCH"] = "ITERATION"
    """What stepsize, stepvalue and warmup are counted in, and t of exp, inv, inverse_time and
    sigmoid; epochs in parts, iteration by iteration."""
    gamma: Real | None = None
    """Factor of step, multistep, exp and plateau; growth of inv and inverse_time; slope of
    sigmoid, below 0 to fall."""
    power: NonNegativeReal | None = None
    """Exponent of inv and poly."""
    stepsize: Positive | None = None
    """Iterations between two steps of `step`; where `sigmoid` is at half of its way."""
    stepvalue: Annotated[tuple[Positive, ...], BeforeValidator(many)] = ()
    """Iterations at which `multistep` multiplies the rate by gamma, rising."""
    warmup: NonNegativeReal = 0.0
    """Iterations over which the rate rises to the policy's in a line; the policy counts them,
    and plateau does not blame a test among them."""
    warmup_factor: Share = 1 / 3
    """Share of the policy's rate that warm-up begins with."""
    min_lr: NonNegativeReal = 0.0
    """Where cosine ends, and below which plateau does not go."""
    patience: NonNegative | None = None
    """Tests in a row without a better score that plateau bears; at one more it cuts the rate."""
    threshold: NonNegativeReal = 1e-4
    """By how much a score has to beat the best one to count for plateau."""
    threshold_mode: Literal["REL", "ABS"] = "REL"
    """Whether plateau's threshold is a share of the best score or a difference."""
    cooldown: NonNegative = 0
    """Tests after a cut that plateau does not blame."""
    pct_start: Share = 0.3
    """Share of all iterations in which one_cycle rises."""
    div_factor: PositiveReal = 25.0
    """one_cycle begins at base_lr over it."""
    final_div_factor: PositiveReal = 1e4
    """one_cycle ends at its beginning over it."""
    momentum: Probability | None = None
    """Share of the last update that goes on; Adam's β1; AdaDelta's decay.

    Unless set 0.9 for Adam and AdamW, 0.95 for AdaDelta, else 0. AdaGrad takes none, and RMSProp
    only with PyTorch's arithmetic.
    """
    momentum2: Probability = 0.999
    """Adam's β2."""
    rms_decay: Probability = 0.99
    """Share of the mean square that RMSProp keeps."""
    delta: PositiveReal = 1e-8
    """Keeps AdaGrad, RMSProp, AdaDelta and Adam from dividing by 0: their ε."""
    weight_decay: NonNegativeReal = 0.0
    """Factor λ of the penalty's gradient, times a parameter's decay_mult."""
    regularization_type: Literal["L2", "L1"] = "L2"
    """The penalty: L2 is λ/2·Σ w², L1 is λ·Σ |w|."""
    decay_norm_and_bias: Flag = True
    """Whether the penalty is for vectors, too: biases, and what a normalisation or a prelu has
    for each channel. If not, their decay_mult is 0, whatever is said of it."""
    ema_decay: Probability = 0.0
    """Share d of the weights' running mean that stays at each update, w̄' = d·w̄ + (1 - d)·w';
    0: there is none.

    It begins at the initial weights, holds running statistics too, and is what is tested, written
    and compiled; Caffe's snapshots have the weights themselves.
    """
    ema_warmup: Flag = False
    """Whether d is (1 + t) / (10 + t) at most, t the updates before, so that the initial weights
    are soon forgotten."""
    freeze: Texts = ()
    """Layers, blocks or patterns such as `"stage*/*"` that learn nothing, as if all their lr_mult
    were 0, and infer in training, too: batch norm reads its running statistics, nothing is dropped.

    What only frozen layers lead to keeps no activations and computes no gradients.
    """
    clip_gradients: _Norm = -1.0
    """The largest L2 norm of all gradients together; longer ones are shortened to it.

    As in Caffe, of the sum over iter_size batches, before it is divided and before the penalty.
    """
    iter_size: Positive = 1
    """Batches of `batch_size` whose gradients make one iteration: their mean."""
    max_epoch: Positive | None = None
    """Passes over the training data."""
    max_iter: NonNegative | None = None
    """Iterations, instead of epochs; with 0 the net is tested and written as it begins."""
    test_interval: NonNegative | None = None
    """Iterations between tests, 0 for none; unless set, each epoch is tested."""
    test_iter: Positive | None = None
    """Batches of a test, from the first sample on and over again; unless set, each sample once."""
    test_initialization: Flag = False
    """Whether there is a test before the first iteration, too."""
    display: NonNegative = 20
    """Iterations between two lines of the log; 0: only tests have one."""
    average_loss: _Window | None = None
    """Iterations over which the loss that is shown and logged is a running mean.

    Unless set, the latest is shown, and the mean since the last line is logged.
    """
    snapshot: NonNegative = 0
    """Iterations between snapshots: checkpoints beside those that a run keeps anyway; 0: none."""
    snapshot_after_train: Flag = True
    """Whether there is a snapshot at the end, too."""
    snapshot_prefix: Text | None = None
    """Where Caffe's files go: `<prefix>_iter_100.caffemodel` and `.solverstate`; unless set, none
    are written."""
    snapshot_format: Literal["BINARYPROTO", "HDF5"] = "BINARYPROTO"
    """Which of its two formats Caffe's files have; HDF5's names end in `.h5`."""
    random_seed: Int = 1
    """Seed of the initial weights, the shuffling and dropout; below 0 a training takes one from
    the clock, and its run keeps it."""
    early_stopping: Positive | None = None
    """Tests in a row without a better score after which the training ends; unless set, never.

    The score is the last metric, the higher the better; without metrics the loss.
    """
    min_delta: NonNegativeReal = 0.0
    """By how much a score must be better to count for `early_stopping`."""
    max_time: Duration | None = None
    """Seconds of training, or a time such as "90m", after which it ends, tested and written as at
    any end; what was spent before a stop counts."""
    rollback: NonNegative = 0
    """How often a training that diverges goes back to its last good checkpoint; 0: it ends."""
    rollback_factor: Annotated[
        float, BeforeValidator(real(above=0, maximum=1)), Says("number above 0, at most 1")
    ] = 0.5
    """What a rollback multiplies the learning rate by, for all that follows."""
    rollback_skip: NonNegative = 0
    """Batches that a rollback leaves out: those up to the one that failed, which is the first of
    so many; 0: none."""

    @property
    def mu(self) -> float:
        """The momentum, as set or as usual for the type."""
        return _MOMENTUM.get(self.type, 0.0) if self.momentum is None else self.momentum

    @model_validator(mode="after")
    def _complete(self) -> Solver:
        if (self.max_epoch is None) == (self.max_iter is None):
            raise ValueError("takes max_epoch or max_iter, one of the two")
        self._check_policy()
        if list(self.stepvalue) != sorted(set(self.stepvalue)):
            raise ValueError("stepvalue must rise")
        self._check_ends()
        none = self.type == "AdaGrad" or (self.type == "RMSProp" and self.arithmetic == "CAFFE")
        if none and self.momentum:
            raise ValueError(f"{self.type} takes no momentum")
        unsaid = self.momentum is None or self.arithmetic == "PYTORCH"
        if self.type == "Nesterov" and not self.momentum and unsaid:
            raise ValueError("Nesterov needs a momentum above 0")
        return self

    def _check_ends(self) -> None:
        if self.early_stopping is not None and self.test_interval == 0:
            raise ValueError("early_stopping needs tests, and test_interval 0 is none")
        if self.early_stopping is None and self.min_delta:
            raise ValueError("min_delta goes with early_stopping")
        if self.rollback and self.rollback_factor == 1 and not self.rollback_skip:
            raise ValueError("rollback repeats itself with rollback_factor 1 and rollback_skip 0")

    def _check_policy(self) -> None:
        fields = Solver.model_fields.items()
        said = {name for name, field in fields if getattr(self, name) != field.default}
        if misfit := conflict(self, said):
            raise ValueError(misfit)
        if self.lr_policy == "plateau" and self.test_interval == 0:
            raise ValueError("lr_policy plateau needs tests, and test_interval 0 is none")
        if self.ema_warmup and not self.ema_decay:
            raise ValueError("ema_warmup needs an ema_decay above 0")
        if self.gamma is not None and self.gamma < 0 and self.lr_policy != "sigmoid":
            raise ValueError(f"gamma must be at least 0, not {shown(self.gamma)}")


_MOMENTUM = {"Adam": 0.9, "AdamW": 0.9, "AdaDelta": 0.95}
"""What `momentum` is unless it is set (Kingma & Ba 2015; Zeiler 2012), where that is not 0."""
