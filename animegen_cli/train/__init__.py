"""The training loop and what it needs: optimizers, EMA, logs, resolved choices."""
