"""Deploy this checkout as a Space: `ddpm-hub space deploy`, without installing the package.

    python space_config/deploy.py user/name [--model user/repo] [--hardware t4-small] [--dry-run]

It needs huggingface-hub and typer, and nothing else.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from ddpm_hub.cli import main

    sys.argv[1:1] = ["space", "deploy"]
    main()
