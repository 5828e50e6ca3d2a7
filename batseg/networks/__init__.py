"""Networks and losses: nn.Modules on batches (batch, channel, z, y, x); they return logits."""
