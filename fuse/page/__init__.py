"""A report as one HTML file: what was run, its numbers, and where a model is wrong. Nothing in it is fetched or run.

What is licensed stays out: no frame, word or sound of any recording. Annotations are licensed, too: they are shown as
counts and means of many frames, or drawn as pixels (PNG), since an SVG's path would hold each label to several digits.
"""
