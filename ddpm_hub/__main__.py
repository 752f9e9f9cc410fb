"""`python -m ddpm_hub` is `ddpm-hub`."""

from ddpm_hub.cli import main

main()
