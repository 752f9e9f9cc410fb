"""Build the demo and launch it, nothing else: GRADIO_SERVER_NAME and _PORT say where."""

from ddpm_hub.app import build, launch_options, logs

logs.install()
demo = build()

if __name__ == "__main__":
    demo.launch(**launch_options())
