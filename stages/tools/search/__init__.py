"""`bert-lora search`: hyper-parameter search by Optuna, chosen on validation, never on test."""
