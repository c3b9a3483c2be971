"""Language models GPT-2 and GPT2_ML as a Lightning module: trained from nothing, fine-tuned, or turned classifier.

B blocks a batch, T tokens a block, V vocabulary, K classes. Batches are those of `lightning_modules.data.text`.
"""

import math
from collections.abc import Mapping
from inspect import signature
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins import MixedPrecision
from pytorch_lightning.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedModel

from lightning_modules.data.sampling import draw
from lightning_modules.data.text_blocks import IGNORED
from lightning_modules.data.text_tokenizers import Tokenizer
from lightning_modules.gpt2.adapters import add_lora, freeze
from lightning_modules.gpt2.generate import Choice, Length, forbidden_of, generate, longest
from lightning_modules.gpt2.network import from_config, known_config, new_config, plain
from lightning_modules.gpt2.sampling import Truncation
from lightning_modules.gpt2.sources import DIGEST, TOKENIZER, files_of, load_network, tokenizer_of
from lightning_modules.optimizers import DEFAULT_OPTIMIZER, OPTIMIZERS, configure
from lightning_modules.optimizers.accumulation import TokenWindow
from lightning_modules.parts import load_class

PROMPT_TOKENS, SAMPLED_TOKENS = 16, 64
SAMPLED = Truncation(top_p=0.95)
MOST_NATS = 700.0  # exp of more is no float

Batch = Mapping[str, Any]


class GPT2(pl.LightningModule):
    """A causal language model over the tokens of the data: GPT-2, or GPT2_ML of kexue.fm/archives/7292.

    The training loss is the mean over the tokens of a whole step, whatever the lengths of its micro-batches and on how
    many processes they lie; so is `train/loss`, and `train/tokens` counts them. Weight decay spares biases and norms.

    Args:
        architecture: gpt2 = norms before attention and network (Radford et al. 2019); gpt2_ml = norms after them, as
            the public Chinese model. With init_from this and the next three are those of its weights.
        n_layers: Blocks.
        width: Numbers that describe a token.
        n_heads: Of attention, a divisor of the width.
        dropout: Of embeddings, attention and blocks, in training.
        config: Further settings of transformers' config, as {layer_norm_epsilon: 1e-6}.
        init_from: Weights to begin from: a folder in transformers' format, hub:OWNER/NAME, a run's checkpoint, run:RUN.
            null = new ones.
        task: generate = predicts the next token; classify = tells which of K classes a text belongs to.
        lora_rank: Train only additions of this rank to every matrix of the blocks; null = the matrices themselves.
        lora_alpha: Scale of the additions times their rank; null = twice the rank.
        lora_dropout: Of what enters the additions.
        n_frozen: First blocks that stay as they are, the embeddings (and the head that shares them) with them; 0 trains
            all.
        frozen_dtype: Type that weights which are not trained are kept in; bfloat16 halves their memory.
        checkpointing: Compute a block's inside again in the backward pass instead of keeping it.
        prompts: Texts that are continued after each validation; none = the beginning of the validation text.
        baselines: Also record the bits per byte of n-grams and of xz on the same text, once; seconds a megabyte.
        vocabulary_size: Tokens of the data.
        block_size: Positions of a new model.
        n_classes: K, for the task classify.
        seed: Number from which new weights and samples follow.
        optimizer: Name and settings of the optimizer; None = the default one.
        schedule: Name and settings of the learning-rate schedule; None = constant.
    """

    objective = ("val/loss", "min")
    may_be_sharded = True  # fsdp may cut its weights into parts
    weighted_by = "tokens"  # the term of a step that its other terms are means over

    def __init__(
        self,
        architecture: Literal["gpt2", "gpt2_ml"] = "gpt2",
        n_layers: int = 4,
        width: int = 192,
        n_heads: int = 4,
        dropout: float = 0.0,
        config: dict[str, Any] | None = None,
        init_from: str | None = None,
        task: Literal["generate", "classify"] = "generate",
        lora_rank: int | None = None,
        lora_alpha: float | None = None,
        lora_dropout: float = 0.0,
        n_frozen: int = 0,
        frozen_dtype: Literal["float32", "bfloat16"] = "float32",
        checkpointing: bool = False,
        prompts: tuple[str, ...] = (),
        baselines: bool = False,
        vocabulary_size: int = 50257,
        block_size: int = 1024,
        n_classes: int | None = None,
        seed: int = 0,
        optimizer: dict[str, Any] | None = None,
        schedule: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        n_classes = n_classes if task == "classify" else None  # a language model takes labelled text too
        self.save_hyperparameters()
        _check_settings(task, dropout, lora_dropout, n_classes, lora_rank, frozen_dtype)
        self.block_size, self.seed, self.prompts, self.wants_baselines = block_size, seed, tuple(prompts), baselines
        self.tokenizer: Tokenizer | None = None
        with torch.random.fork_rng(devices=[]):  # torch's layers draw from the global generator alone
            torch.default_generator.set_state(draw(seed, "gpt2/weights").get_state())
            self.model = self._network()
            if lora_rank is not None:
                add_lora(self.model, lora_rank, lora_alpha, lora_dropout)
            freeze(self.model, n_frozen)
            self.head = None if n_classes is None else nn.Linear(self.model.config.n_embd, n_classes)
        for parameter in self.model.parameters():
            if not parameter.requires_grad:
                parameter.data = parameter.data.to(getattr(torch, frozen_dtype))
        if checkpointing:
            self.model.activation_checkpointing_enable()
        self._remember_config()
        self._vectors = {name for name, p in self.named_parameters() if p.ndim < 2}  # fsdp makes vectors of them all
        self._window = TokenWindow()
        self._sums: list[Tensor] = []  # of this validation
        self._opening: list[int] = []  # of the validation text

    def forward(self, input_ids: Tensor, position_ids: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Logits of each next token, (B, T, V), or of the classes as each token is read, (B, T, K).

        Args:
            input_ids: (B, T).
            position_ids: (B, T); None = each row from 0.
            mask: (B, 1, T, T), True where a token sees another; None = all before it.
        """
        options: Any = {"position_ids": position_ids, "attention_mask": mask, "use_cache": False}
        if self.head is None:
            logits: Tensor = self.model(input_ids, **options).logits
            return logits
        transformer: Any = self.model.transformer
        states = transformer(input_ids, **options).last_hidden_state
        scores: Tensor = self.head(states.to(self.head.weight.dtype))
        return scores

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """The loss to minimise, and how many tokens, or what share of the texts, it judges."""
        if self.head is not None:
            scores = self._class_scores(batch)
            loss = F.cross_entropy(scores, batch["label"])
            return {"loss": loss, "accuracy": _accuracy(scores, batch["label"])}
        losses, is_target = self._token_losses(batch)
        n_tokens = is_target.sum()
        self._window.add(n_tokens)
        loss = losses.sum() / n_tokens.clamp_min(1)
        if loss.requires_grad:
            # the value is the mean, the gradient that of the sum; over T, as a sum may be too large for float16
            scale = n_tokens.to(loss.dtype) / self.block_size
            loss.register_hook(lambda gradient: gradient * scale)  # type: ignore[no-untyped-call]
        return {"loss": loss, "tokens": n_tokens}

    def per_sample_loss(self, batch: Batch) -> Tensor:
        """The mean loss of each row's tokens, or of its class, (B,): what `lightning_modules.dynamics` measures."""
        with sdpa_kernel(SDPBackend.MATH):  # the fused ones have no second derivative
            if self.head is not None:
                return F.cross_entropy(self._class_scores(batch), batch["label"], reduction="none")
            losses, is_target = self._token_losses(batch)
        return losses.sum(1) / is_target.sum(1).clamp_min(1)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds up losses, tokens and bytes of the validation set; of a classifier, logs loss and accuracy."""
        if self.head is not None:
            scores = self._class_scores(batch)
            labels = batch["label"]
            found = {"val/loss": F.cross_entropy(scores, labels), "val/accuracy": _accuracy(scores, labels)}
            self.log_dict(found, on_step=False, on_epoch=True, batch_size=len(scores), sync_dist=True)
            return
        if batch_idx == 0:
            self._sums = []
            self._opening = batch["input_ids"][0, : min(PROMPT_TOKENS, self.block_size // 2)].tolist()
        losses, is_target = self._token_losses(batch)
        n_bytes = _next(batch.get("bytes", torch.zeros_like(is_target)), 0) * is_target
        is_clean = _next(batch.get("clean", torch.zeros_like(is_target)), False)
        terms = (losses, is_target, n_bytes, losses * is_clean, n_bytes * is_clean)
        self._sums.append(torch.stack([term.sum(dtype=torch.float32) for term in terms]))

    def on_validation_epoch_end(self) -> None:
        """Logs loss (nats a token), perplexity and bits a byte of the whole set, every token counting alike."""
        if self.head is not None:
            return
        sums = torch.stack(self._sums).cpu().double().sum(0)  # Apple's GPU has no float64
        if self.trainer.world_size > 1:
            sums = self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum")
        nats, n_tokens, n_bytes, clean_nats, clean_bytes = sums.tolist()
        loss = nats / max(n_tokens, 1)
        found = {"val/loss": loss, "val/perplexity": math.exp(min(loss, MOST_NATS))}
        if n_bytes:
            found["val/bits_per_byte"] = nats / math.log(2) / n_bytes
        if clean_bytes:
            found["val/bits_per_byte_clean"] = clean_nats / math.log(2) / clean_bytes
        self.log_dict({name: torch.tensor(value, device=self.device) for name, value in found.items()}, sync_dist=True)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Leaves out which document a token is of where no row holds several: the mask would slow attention down."""
        if not isinstance(batch, dict) or "document_ids" not in batch or self.head is not None:
            return batch
        if (batch["document_ids"] > 0).any():  # here, where looking waits for no device
            return batch
        return {key: value for key, value in batch.items() if key not in ("document_ids", "position_ids")}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """The gradient of the sums becomes that of the mean over the tokens of the step, before it is clipped."""
        if self.head is None:
            parts = self.trainer.accumulate_grad_batches * self.block_size
            self._window.scale([p for p in self.parameters() if p.requires_grad], divided_by=parts)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Lightning's; in bfloat16, where no gradient is scaled, with fused optimizers too, which Lightning refuses."""
        is_mixed = isinstance(self.trainer.precision_plugin, MixedPrecision) and self.trainer.precision == "bf16-mixed"
        if gradient_clip_val and is_mixed:
            nn.utils.clip_grad_norm_([p for p in self.parameters() if p.requires_grad], gradient_clip_val)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_fit_start(self) -> None:
        """Records the baselines, at the beginning of a run."""
        baselines = getattr(getattr(self.trainer, "datamodule", None), "baselines", None)
        if self.wants_baselines and baselines and self.logger and not self.global_step and self.global_rank == 0:
            self.logger.log_metrics(baselines(), 0)

    def configure_optimizers(self) -> Any:
        """The optimizer and schedule named in the settings; biases and norms are in a group without weight decay."""
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        parameters = list(trained.values())
        chosen = self.hparams["optimizer"]
        kind = load_class((chosen or {}).get("class", DEFAULT_OPTIMIZER), OPTIMIZERS)
        if "weight_decay" not in signature(kind).parameters:
            return configure(parameters, chosen, self.hparams["schedule"])
        matrices = [p for name, p in trained.items() if name not in self._vectors]
        others: Any = {"params": [trained[name] for name in trained if name in self._vectors], "weight_decay": 0.0}
        groups: Any = [{"params": matrices}, *([others] if others["params"] else [])]
        return configure(groups, chosen, self.hparams["schedule"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keeps the tokenizer with the weights."""
        if self.tokenizer is not None:
            checkpoint[TOKENIZER] = files_of(self.tokenizer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the tokenizer of a checkpoint."""
        if TOKENIZER in checkpoint:
            self.tokenizer = tokenizer_of(checkpoint[TOKENIZER])

    def check_data(self, data: Any) -> None:
        """Refuses data this model cannot read.

        Args:
            data: Anything with `vocabulary_size` and `block_size`; with a `tokenizer`, samples are drawn.

        Raises:
            ValueError: It has more tokens than the model, longer blocks, other tokens than the model was trained on,
                or no labels for a classifier.
        """
        config = self.model.config
        if data.vocabulary_size > config.vocab_size:
            raise ValueError(
                f"data.tokenizer: {data.vocabulary_size} tokens, the model has {config.vocab_size}; give the one it was"
                " trained with, as --data.tokenizer FOLDER"
            )
        if data.block_size > config.n_positions:
            raise ValueError(f"data.block_size = {data.block_size}: the model has {config.n_positions} positions")
        if self.head is not None and getattr(data, "n_classes", None) is None:
            raise ValueError("model.task = classify: the data has no labels; give --data text --data.label_key KEY")
        self.tokenizer = getattr(data, "tokenizer", None)
        if self.tokenizer is None:
            return
        known = getattr(config, DIGEST, None)
        if known not in (None, self.tokenizer.digest):
            raise ValueError(
                "data.tokenizer: its tokens are not those the model was trained on; give the model's own, as"
                " --data.tokenizer FOLDER"
            )
        setattr(config, DIGEST, self.tokenizer.digest)
        self._remember_config()
        if self.prompts and self.head is None:
            longest(self.model, [self.tokenizer.encode(text) for text in self.prompts], Length())

    def texts(self) -> dict[str, list[dict[str, str]]]:
        """Continuations of the prompts by name, each {prompt, text}, drawn with the same numbers at every validation.

        None where the weights are spread over processes, and none of a classifier.
        """
        is_spread = isinstance(self.trainer.strategy, FSDPStrategy | DeepSpeedStrategy | ModelParallelStrategy)
        if self.tokenizer is None or self.head is not None or is_spread:
            return {}
        prompts = [self.tokenizer.encode(text) for text in self.prompts] or [self._opening]
        length = Length(min(SAMPLED_TOKENS, longest(self.model, prompts, Length())), end=self.tokenizer.end_id)
        choice = Choice(SAMPLED, self.seed, 1, forbidden_of(self.model), self.tokenizer.vocabulary_size)
        decode = self.tokenizer.decode
        found = zip(prompts, generate(self.model, prompts, length, choice), strict=True)
        return {"samples": [{"prompt": decode(prompt), "text": decode(tokens)} for prompt, tokens in found]}

    def _network(self) -> PreTrainedModel:
        """A new network, or the one to begin from."""
        family, dropout, source = (self.hparams[key] for key in ("architecture", "dropout", "init_from"))
        settings = dict(self.hparams["config"] or {})
        if "model_type" in settings:  # all of them, as a checkpoint has them
            return from_config(known_config(settings))
        if source is not None:
            return load_network(source, {"dropout": dropout, **settings})
        sizes = {key: self.hparams[key] for key in ("n_layers", "width", "n_heads")}
        rows = {"vocab_size": self.hparams["vocabulary_size"], "n_positions": self.block_size}
        return from_config(new_config(family, **sizes, **rows, dropout=dropout, **settings))

    def _remember_config(self) -> None:
        """What a checkpoint is rebuilt by, without what its run began from."""
        self.hparams.update(config=plain(self.model.config), init_from=None)

    def _read(self, batch: Batch) -> Tensor:
        if "document_ids" not in batch:
            return self(batch["input_ids"])  # type: ignore[no-any-return]
        return self(batch["input_ids"], batch["position_ids"], document_mask(batch["document_ids"]))  # type: ignore[no-any-return]

    def _token_losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Nats of the token after each place, 0 where none is asked for, and where one is; (B, T) each."""
        labels = _next(batch["labels"], IGNORED)  # shifted, not the logits: those are the larger ones to copy
        logits = _in_full(self._read(batch).flatten(0, 1))
        losses = F.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="none")
        return losses.view_as(labels), labels != IGNORED

    def _class_scores(self, batch: Batch) -> Tensor:
        """Logits (B, K) when the last token of each row's one text is read."""
        scores = self(batch["input_ids"])
        last = (batch["document_ids"] >= 0).sum(1) - 1
        return _in_full(scores[torch.arange(len(last), device=last.device), last])


def document_mask(document_ids: Tensor) -> Tensor:
    """Where a token sees another: not after it, and of the same document; (B, T) to bool (B, 1, T, T).

    >>> document_mask(torch.tensor([[0, 0, 1]])).int()[0, 0].tolist()
    [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    """
    n_tokens = document_ids.shape[1]
    causal = torch.ones(n_tokens, n_tokens, dtype=torch.bool, device=document_ids.device).tril()
    return (causal & (document_ids[:, :, None] == document_ids[:, None, :]))[:, None]


def _in_full(logits: Tensor) -> Tensor:
    """In float32 at least: a loss in half precision is off by more than it moves."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _next(values: Tensor, last: int | bool) -> Tensor:
    """Each place's value of the next token, (B, T); `last` after the last one."""
    return F.pad(values[:, 1:], (0, 1), value=last)


def _accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    return (scores.argmax(1) == labels).float().mean()


def _check_settings(
    task: str, dropout: float, lora_dropout: float, n_classes: int | None, lora_rank: int | None, frozen_dtype: str
) -> None:
    for name, share in (("dropout", dropout), ("lora_dropout", lora_dropout)):
        if not 0 <= share < 1:
            raise ValueError(f"model.{name} = {share}: must lie in [0, 1)")
    if task == "classify" and n_classes is None:
        raise ValueError("model.task = classify: the data has no labels; give --data text --data.label_key KEY")
    if lora_rank is not None and lora_rank < 1:
        raise ValueError(f"model.lora_rank = {lora_rank}: must be at least 1, or null for no LoRA")
    if frozen_dtype != "float32" and lora_rank is None:
        raise ValueError(f"model.frozen_dtype = {frozen_dtype}: only with model.lora_rank, which freezes the matrices")
