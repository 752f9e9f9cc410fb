"""The version of ddpm_hub, as pyproject.toml and saved models state it."""

__version__ = "0.1.0"
