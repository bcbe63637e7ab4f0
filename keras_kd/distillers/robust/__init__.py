"""Training on adversarial examples: the attack within a step, and its regime without a teacher."""
