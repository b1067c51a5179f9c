"""The player: a person plays the real game and its imagination in the browser.

:mod:`session` is the game, :mod:`pace` steps it, :mod:`server` is the browser's page.
"""
