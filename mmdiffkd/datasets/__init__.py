"""Data sets that need a host library. Configs name them by their full path.

A registry would import them, and with them the host, whenever any data set is looked up.
"""
