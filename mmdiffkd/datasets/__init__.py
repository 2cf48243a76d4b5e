"""Data sets that need a host library, which configs name by their full path, and checks of data.

A registry would import them, and with them the host, whenever any data set is looked up.
"""
