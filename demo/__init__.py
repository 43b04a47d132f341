"""The demo page in parts; `app.py` serves it.

A tab of the page is a Python module that asks the server, and a script of the same name beside it
that draws the answer: photos, compare, camera, video. Between the two travel plain dicts.
"""
