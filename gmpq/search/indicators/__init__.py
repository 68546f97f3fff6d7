"""What bits cost in quality: sensitivity, and the learned steps of LIMPQ."""
