"""The constant of an unnormalised law by annealed importance sampling (Salakhutdinov & Murray 2008)."""
