"""Knowledge distillation: what the student learns from, and how."""
