"""The three models: base (Θ_base), generator (G_φ) and CTR model (F_θ)."""
