"""Energy-based models: densities known up to a constant (LeCun, Chopra, Hadsell, Ranzato & Huang 2006)."""
