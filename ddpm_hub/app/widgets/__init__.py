"""Custom components: each is a gr.HTML with its own script and style sheet beside it."""
