"""The configuration of a training run: what a recipe in ``configs/`` may say."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from polyscale.config import Config
from polyscale.crops import AugmentConfig, ClassUniformConfig, MixConfig, TrainDataConfig
from polyscale.data import DataConfig
from polyscale.losses import LossConfig
from polyscale.models import ModelConfig
from polyscale.scales import check_scales

__all__ = ["ExperimentConfig", "OptimizerConfig", "ScheduleConfig", "TrainingConfig", "ValidationConfig"]


Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimizerConfig(Config):
    """SGD or AdamW; the defaults are the paper's SGD."""

    kind: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(5e-3, gt=0)
    """Learning rate of decoder and heads, for the global batch that the recipe names."""
    backbone_lr_factor: float = Field(1.0, ge=0)
    """The backbone's learning rate is ``lr`` times this; 0 freezes its weights (its batch norms still take statistics,
    unless ``freeze_batchnorm`` is set).
    """
    attention_lr_factor: float = Field(1.0, ge=0)
    """The scale-attention head's learning rate is ``lr`` times this."""
    weight_decay: float = Field(1e-4, ge=0)
    """Per step and unit of learning rate."""
    decay_norms: bool = True
    """Weight decay also on norm weights and biases (as the reference does)."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """SGD's."""
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    """AdamW's."""


class ScheduleConfig(Config):
    """The learning rate over the run, as a factor of ``optimizer.lr``."""

    kind: Literal["poly", "cosine", "constant"] = "poly"
    power: float = Field(0.9, gt=0)
    """Exponent of the polynomial: (1 - progress)^power. The paper: 2 on Cityscapes, 1 on Mapillary."""
    warmup_steps: int = Field(0, ge=0, le=10**9)
    """Steps of linear warm-up; a fifth of the run at most."""
    per_epoch: bool = False
    """Change it once an epoch (as the reference does) rather than each step."""

    def fitting(self, total_steps: int) -> "ScheduleConfig":
        """The schedule of a run of so many steps: its warm-up leaves the larger part of the run."""
        return self.model_copy(update={"warmup_steps": min(self.warmup_steps, total_steps // 5)})


class ValidationConfig(Config):
    """Scoring during training."""

    every: int = Field(1, ge=1)
    """Epochs from one validation to the next; the last epoch is always validated."""
    scales: tuple[float, ...] = ()
    """Evaluation scales; empty for the model's ``eval_scales``. With [0.5, 1] a validation takes a quarter of the time
    of [0.5, 1, 2].
    """
    final: bool = False
    """After the last epoch, score the best network once more, at the model's ``eval_scales``."""
    flip: bool = False
    """Also look at the mirrored images, and average both."""

    @field_validator("scales")
    @classmethod
    def _possible(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if scales:
            check_scales(scales)
        return scales


class TrainingConfig(Config):
    """Length, batches, optimisation and bookkeeping of a run."""

    start_from: str | None = None
    """A Polyscale checkpoint whose weights the network starts from; what does not fit it stays new."""
    epochs: int = Field(100, ge=1, le=10**6)
    """Length of the run."""
    epoch_length: int | None = Field(None, ge=1, le=10**9)
    """Crops an epoch; null for one crop of each image (of a mix: of its first source, and the others' share)."""
    batch_size: int = Field(8, ge=1, le=10**6)
    """Crops a process and micro-step. The global batch is this times processes times ``accumulate``."""
    accumulate: int = Field(1, ge=1, le=10**6)
    """Micro-steps whose gradients are averaged into one optimiser step."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """See below."""
    schedule: ScheduleConfig = ScheduleConfig()
    """See below."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest gradient norm; null for no clipping."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Keep a moving average of the weights, validate it and store it as the result; null for none. It never reaches
    back over more than a ninth of the steps so far, so that a short run needs no other value.
    """
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Number type in which the network computes; weights, losses and scores stay float32. fp16 needs a GPU."""
    sync_batchnorm: bool = True
    """Batch-norm statistics over all GPUs (PyTorch has none for CPUs, where this has no effect)."""
    freeze_batchnorm: bool = False
    """Keep the batch norms' stored statistics and weights: for batches of one or two crops, with pretrained weights."""
    channels_last: bool = True
    """Memory order of images and weights; faster on GPUs with tensor cores and on most CPUs."""
    num_workers: int | None = Field(None, ge=0)
    """Loader processes for each training process; null chooses by cores."""
    log_every: int = Field(10, ge=1)
    """Steps between two lines of the log."""
    save_every: float = Field(300.0, gt=0)
    """Seconds between two saves of the state that ``--resume`` continues from; it is also saved after each epoch."""
    check_data: bool = True
    """Read every file once before the first step."""
    tracker: Literal["none", "tensorboard", "wandb", "mlflow"] = "tensorboard"
    """Where numbers and validation pictures also go: TensorBoard's events in the run's folder (where the package is
    installed), Weights & Biases, or MLflow. Project and server come from these libraries' own settings
    (``WANDB_MODE=offline``, ``MLFLOW_TRACKING_URI``).
    """

    @model_validator(mode="before")
    @classmethod
    def _was_tensorboard(cls, values: Any) -> Any:
        """Recipes of before 0.3 say ``tensorboard: true`` or ``false``."""
        if isinstance(values, dict) and isinstance(wanted := values.get("tensorboard"), bool):
            values = {key: value for key, value in values.items() if key != "tensorboard"}
            values.setdefault("tracker", "tensorboard" if wanted else "none")
        return values


class DataSets(Config):
    """Where images and labels come from."""

    train: TrainDataConfig
    """One data set, or ``kind: mix`` with several sources."""
    val: DataConfig | None = None
    """What the network is scored on while it trains; null scores nothing."""


class ExperimentConfig(Config):
    """A whole run: the root of a recipe."""

    name: str = "experiment"
    """Also names the run's folder below ``runs/`` where none is given."""
    notes: tuple[str, ...] = ()
    """Remarks, such as what `polyscale train DATA` chose and why; they change nothing."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Every random draw of the run comes from it."""
    data: DataSets
    """Images and labels."""
    model: ModelConfig = ModelConfig()
    """The network."""
    augment: AugmentConfig = AugmentConfig()
    """How training images are varied."""
    sampling: ClassUniformConfig = ClassUniformConfig()
    """Which images are drawn how often."""
    loss: LossConfig = LossConfig()
    """The losses that are minimised."""
    training: TrainingConfig = TrainingConfig()
    """Length, batches, optimiser and bookkeeping."""
    validation: ValidationConfig = ValidationConfig()
    """Scoring while it trains."""

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, name: str) -> str:
        if not name.strip(" .") or "/" in name or "\\" in name:
            raise ValueError("it also names the run's folder, so give a word, and the path with --out")
        return name

    @model_validator(mode="after")
    def _mix_suits_sampling_and_loss(self) -> "ExperimentConfig":
        mix = self.data.train
        if not isinstance(mix, MixConfig):
            return self
        for name, source in mix.sources.items():
            keys = {"plain": not source.plain, "classes": source.classes is not None, "boost": bool(source.boost)}
            idle = [key for key, given in keys.items() if given]
            if idle and self.sampling.fraction == 0:
                raise ValueError(
                    f"{idle[0]} of source {name!r} is about class-uniform sampling, which is off; set "
                    f"sampling.fraction above 0, such as 0.5, or leave {idle[0]} out"
                )
            if source.until_epoch is not None and source.until_epoch >= self.training.epochs:
                raise ValueError(
                    f"until_epoch of source {name!r} is {source.until_epoch}, but training ends after "
                    f"{self.training.epochs} epochs; lower it, or leave it out"
                )
        used = {term.loss for part in ("main", "aux", "per_scale") for term in self.loss.terms(part)}
        if mix.weighting == "pixel" and "rmi" in used:
            raise ValueError(
                "confidence_power weighs single pixels, which loss rmi cannot: it compares neighbourhoods; set "
                "loss.main to cross_entropy, bce or dice, or confidence_power to 0"
            )
        return self

    @model_validator(mode="after")
    def _explicit_validates_at_its_scales(self) -> "ExperimentConfig":
        scales = self.validation.scales
        settings = self.model.multiscale
        if scales and settings.method in ("single", "explicit") and set(scales) != set(settings.eval_scales):
            raise ValueError(
                f"method {settings.method!r} validates at {list(settings.eval_scales)} only; remove validation.scales"
            )
        cheaper = bool(scales) and set(scales) != set(settings.eval_scales)
        if self.validation.final and (self.data.val is None or not cheaper):
            raise ValueError(
                "validation.final has no effect without data.val and validation.scales other than the model's "
                "eval_scales; remove it"
            )
        return self
