"""What stages of one process share: the parts as trained so far, and the pool of latents, which is dear to fill."""

from __future__ import annotations

from training import answers, checkpoint, model, transformer, vae
from training.answers import AnswerPool
from training.config import Config
from training.data import LatentPool
from training.families import Parts
from training.progress import Progress


class Session:
    """One process of a run.

    Args:
        config: Of the run.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self._pool: LatentPool | None = None
        self._answers: AnswerPool | None = None

    def parts(self, *, vae_trained: bool = True, trained: bool = True, shipped: bool = False) -> Parts:
        """New parts on the device, with the trained weights.

        Args:
            vae_trained: Load the VAE, and freeze it.
            trained: Load transformer and text encoder.
            shipped: Round the transformer as the exported folder does.
        """
        config = self.config
        parts = model.build(config.model, seed=config.seed)
        for part in (parts.vae, parts.text_encoder, parts.transformer):
            part.to(config.device)
        if vae_trained:
            vae.load(config, parts)
            vae.channels_last(parts.vae)
            parts.vae.eval().requires_grad_(False)
        if trained:
            transformer.load(config, parts)
        if shipped:
            parts.transformer.half().float()
        return parts

    def pool(self, parts: Parts, end: int | None = None) -> LatentPool:
        """The pool up to sample `end` of its stream; by default, as the transformer's last step had it."""
        if end is None:
            end = int(checkpoint.record(self.config.checkpoint("transformer"))["window"])
        if self._pool is not None:
            self._pool.advance(end)
            return self._pool
        self._pool = LatentPool(self.config, parts.vae, parts.tokenizer)
        progress = Progress("pool")

        def report(done: int) -> None:
            if progress.due(done / self.config.transformer.pool):
                progress.log(done / self.config.transformer.pool, f"{done} samples encoded")

        self._pool.advance(end, report=report)
        return self._pool

    def answers(self, pool: LatentPool) -> AnswerPool | None:
        """Ambiguous samples with all their answers; None where no family has any."""
        if self._answers is None and answers.has_ambiguous(self.config):
            self._answers = AnswerPool(self.config, pool)
        return self._answers
