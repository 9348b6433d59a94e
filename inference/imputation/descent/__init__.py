"""Missing entries drawn down a ladder of noise, by a program that knows its scores on the way."""
