"""Compiles the cffi extension; everything else is declared in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["fmedge/_native/build.py:ffibuilder"])
