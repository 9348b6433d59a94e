"""Data missing not at random: a program together with the law of what is hidden (Ipsen, Mattei & Frellsen 2021)."""
