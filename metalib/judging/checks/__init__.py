"""The checks of the book's code exercises, a module a chapter: checks and nothing but checks.

    from metalib.judging.checks.ch04 import check_one_step
    check_one_step(my_function)      # silent, or an AssertionError with a sentence: what does not hold, for which input

The solutions stand in the book; the wrong answers that each check must reject stand in `tests/answers/`.
"""
