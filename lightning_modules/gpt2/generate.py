"""Continuations of prompts by GPT-2 and GPT2_ML: sampled, greedy or by beam search.

B rows, T tokens, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lightning_modules.data.sampling import draw
from lightning_modules.gpt2.decoder import Decoder
from lightning_modules.gpt2.sampling import Truncation

ROWS_AT_ONCE = 8  # a cache of 1,024 positions takes 0.6 GB a row in the largest public model
DEFAULT_LENGTH = 256


@dataclass(frozen=True)
class Length:
    """When a continuation ends; its tokens are counted without the prompt's.

    Args:
        most: Tokens; None = 256, or what the model's positions leave.
        least: Before so many tokens nothing ends.
        end: The token that ends a continuation; None = none does.
        may_pass: Whether that token may stand in the text before `least`, as a full stop may; else it is not drawn.
    """

    most: int | None = None
    least: int = 0
    end: int | None = None
    may_pass: bool = False

    def __post_init__(self) -> None:
        """Refuses lengths that no text has."""
        if self.least < 0:
            raise ValueError(f"min_length = {self.least}: must be at least 0")
        if self.most is not None and not max(1, self.least) <= self.most:
            raise ValueError(f"max_length = {self.most}: must be at least 1 and min_length = {self.least}")


@dataclass(frozen=True)
class Choice:
    """How tokens are chosen.

    Args:
        truncation: What is drawn from.
        seed: Of the draws.
        n_beams: Above 1 nothing is drawn: the likeliest of that many continuations kept at each step.
        forbidden: Tokens that are never chosen.
        n_tokens: Ids from here on are never chosen: rows of the embedding that no token has; None = all have.

    Raises ValueError for fewer beams than one.
    """

    truncation: Truncation = field(default_factory=Truncation)
    seed: int = 0
    n_beams: int = 1
    forbidden: tuple[int, ...] = ()
    n_tokens: int | None = None

    def __post_init__(self) -> None:
        """Refuses fewer beams than one."""
        if self.n_beams < 1:
            raise ValueError(f"num_beams = {self.n_beams}: must be at least 1")


def generate(
    network: PreTrainedModel, prompts: Sequence[Sequence[int]], length: Length, choice: Choice
) -> list[list[int]]:
    """The continuation of each prompt, its end token included.

    Row r draws from a stream of (seed, r), so it does not depend on the rows beside it.

    Args:
        network: A GPT2LMHeadModel or GPT2MLForCausalLM.
        prompts: Ids, of any lengths.
        length: When they end.
        choice: How tokens are chosen.

    Raises ValueError for an empty prompt, and where prompt and continuation have more tokens than the model positions.
    """
    found: list[list[int]] = []
    for first in range(0, len(prompts), ROWS_AT_ONCE):
        part = prompts[first : first + ROWS_AT_ONCE]
        if choice.n_beams > 1:
            found += [beam_search(network, prompt, length, choice) for prompt in part]
            continue
        rows: list[list[int]] = [[] for _ in part]
        for tokens in stream(network, part, length, choice, first_row=first):
            for row, token in zip(rows, tokens, strict=True):
                if token is not None:
                    row.append(token)
        found += rows
    return found


def stream(
    network: PreTrainedModel, prompts: Sequence[Sequence[int]], length: Length, choice: Choice, first_row: int = 0
) -> Iterator[list[int | None]]:
    """The next token of each row, as soon as all have one; None for rows that have ended.

    Arguments and errors are those of `generate`; the prompts are read at once.

    Args:
        network: See there.
        prompts: See there.
        length: See there.
        choice: See there.
        first_row: Number of the first row, for its draws.
    """
    n_most = longest(network, prompts, length)
    decoder, ids = _opened(network, prompts, n_most)
    draws = [draw(choice.seed, "generate", first_row + row) for row in range(len(prompts))]
    uniform = torch.stack([torch.rand(n_most, generator=each, dtype=torch.float64) for each in draws])
    uniform = uniform.to(ids.device)  # (B, n_most)
    has_ended = [False] * len(prompts)
    for n in range(n_most):
        logits = _allowed(decoder.read(ids), length, choice, n)
        ids = choice.truncation.draw(logits, uniform[:, n])[:, None]
        tokens = ids[:, 0].tolist()
        yield [None if ended else token for token, ended in zip(tokens, has_ended, strict=True)]
        if n + 1 >= length.least:
            has_ended = [ended or token == length.end for token, ended in zip(tokens, has_ended, strict=True)]
        if all(has_ended):
            return


def beam_search(network: PreTrainedModel, prompt: Sequence[int], length: Length, choice: Choice) -> list[int]:
    """The likeliest continuation found among `n_beams` kept at each step, by log-probability a token.

    As in transformers with length_penalty 1: of 2 n candidates the ended ones are put aside, the best others go on,
    and the search is over when none of these can beat the worst of n ended ones at its present length.
    """
    n_most, n_beams = longest(network, [prompt], length), choice.n_beams
    decoder, ids = _opened(network, [prompt] * n_beams, n_most)
    beams = torch.empty(n_beams, 0, dtype=torch.int64, device=ids.device)
    scores = torch.full((n_beams,), -torch.inf, dtype=torch.float64, device=ids.device)
    scores[0] = 0  # the beams begin alike: one of them goes on
    ended: list[tuple[float, list[int]]] = []
    for n in range(n_most):
        logits = _allowed(decoder.read(ids), length, choice, n)
        sums = scores[:, None] + logits.double().log_softmax(-1)  # (n_beams, V)
        best, places = sums.flatten().topk(min(2 * n_beams, sums.numel()))
        rows, tokens = places // sums.shape[1], places % sums.shape[1]
        is_end = (tokens == length.end) & (n + 1 >= length.least) if length.end is not None else tokens < 0
        for place in is_end[:n_beams].nonzero()[:, 0].tolist():  # only of the n best candidates
            whole = [*beams[rows[place]].tolist(), int(tokens[place])]
            ended.append((float(best[place]) / (n + 1), whole))
        ended = sorted(ended, reverse=True)[:n_beams]
        going = (~is_end).nonzero()[:n_beams, 0]
        scores, rows, tokens = best[going], rows[going], tokens[going]
        beams, ids = torch.cat([beams[rows], tokens[:, None]], 1), tokens[:, None]
        if len(ended) == n_beams and ended[-1][0] >= float(scores[0]) / (n + 1):
            break
        decoder.reorder(rows)
    else:
        ended += [(float(score) / n_most, beam.tolist()) for score, beam in zip(scores, beams, strict=True)]
    return max(ended)[1]


def longest(network: PreTrainedModel, prompts: Sequence[Sequence[int]], length: Length) -> int:
    """Tokens of the longest continuation these prompts may have.

    Raises ValueError for no prompt, an empty one, and one that leaves too few positions.
    """
    n_positions, n_prompt = network.config.n_positions, max((len(prompt) for prompt in prompts), default=0)
    if not all(prompts) or not prompts:
        raise ValueError("the prompt is empty: a continuation needs at least one token to begin from")
    if n_prompt >= n_positions:
        raise ValueError(
            f"the prompt has {n_prompt} tokens, the model {n_positions} positions; give at most {n_positions - 1}"
        )
    left = n_positions - n_prompt
    if max(length.most or 0, length.least) > left:
        raise ValueError(
            f"max_length = {max(length.most or 0, length.least)}: after a prompt of {n_prompt} tokens the model has "
            f"{left} of its {n_positions} positions left"
        )
    return length.most or min(max(DEFAULT_LENGTH, length.least), left)


def forbidden_of(network: PreTrainedModel) -> tuple[int, ...]:
    """Tokens that a network says are never to be chosen: padding, and rows of the embedding that no token has."""
    pad = network.config.pad_token_id
    suppressed = network.generation_config.suppress_tokens or ()
    return tuple({*suppressed, *([] if pad is None else [pad])} - {network.config.eos_token_id})


def cache_bytes(network: PreTrainedModel, prompts: Sequence[Sequence[int]], length: Length, n_beams: int = 1) -> int:
    """Bytes of keys and values that `generate` holds at once; see there."""
    config = network.config
    n_rows = n_beams if n_beams > 1 else min(len(prompts), ROWS_AT_ONCE)
    n_columns = max(map(len, prompts)) + longest(network, prompts, length)
    return int(2 * config.n_layer * config.n_embd * n_rows * n_columns * network.dtype.itemsize)


def _opened(network: PreTrainedModel, prompts: Sequence[Sequence[int]], n_most: int) -> tuple[Decoder, Tensor]:
    """A decoder for the prompts, and these as rows of the same length, padded on the left."""
    n_prompt, device = max(map(len, prompts)), network.device
    ids = torch.tensor([[0] * (n_prompt - len(prompt)) + list(prompt) for prompt in prompts], device=device)
    pads = torch.tensor([n_prompt - len(prompt) for prompt in prompts], device=device)
    return Decoder(network, pads, n_prompt + n_most), ids


def _allowed(logits: Tensor, length: Length, choice: Choice, n: int) -> Tensor:
    """Logits (B, V) of token n, -inf where it must not be chosen."""
    if choice.n_tokens is not None:
        logits[:, choice.n_tokens :] = -torch.inf
    forbidden = list(choice.forbidden)
    if length.end is not None and not length.may_pass and n + 1 < length.least:
        forbidden.append(length.end)
    if forbidden:
        logits[:, forbidden] = -torch.inf
    return logits
