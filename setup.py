from setuptools import find_packages, setup

setup(packages=find_packages(include=["compress_ops*"]) + ["compress_ops.cli"] + [f"compress_ops.cli.{p}" for p in find_packages("cli")])
