"""The debugging gym: sixteen small training scripts, each wrong in one place.

`bugs run 1` copies a script to `runs/warmup-gym/`, runs it beside a healthy one and draws both.
The learner mends the copy, and `bugs solve 1` holds its behaviour against a check.
"""
