"""Times and memory: comparisons of programs that take turns, their peers, the machine, and what is made of the rows."""
