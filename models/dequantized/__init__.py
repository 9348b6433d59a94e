"""Integers under a flow, with uniform or learned noise between the levels (Theis et al. 2016; Ho et al. 2019)."""
