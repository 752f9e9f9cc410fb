"""How the demo looks: a Gradio theme and the style sheets, both speaking in theme.css's colours.

In the room: what Gradio must be told in Python. The colours themselves are custom properties in
theme.css (documented at its top), so light and dark, Gradio's parts and our widgets agree.
"""

from __future__ import annotations

from pathlib import Path

import gradio as gr

HERE = Path(__file__).parent

# System fonts: nothing is fetched, so the page is right offline and shows no flash of other text.
FONT = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
FONT_MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "DejaVu Sans Mono", "monospace")

_COLOURS = {
    "body_background_fill": "page",
    "body_text_color": "ink",
    "body_text_color_subdued": "muted",
    "background_fill_primary": "panel",
    "background_fill_secondary": "page",
    "block_background_fill": "panel",
    "block_border_color": "line",
    "block_label_background_fill": "panel",
    "block_label_text_color": "muted",
    "block_title_text_color": "ink",
    "block_info_text_color": "muted",
    "border_color_primary": "line",
    "border_color_accent": "accent",
    "color_accent_soft": "soft",
    "input_background_fill": "sunken",
    "input_border_color": "line",
    "input_border_color_focus": "accent",
    "input_placeholder_color": "muted",
    "panel_background_fill": "panel",
    "panel_border_color": "line",
    "slider_color": "accent",
    "checkbox_background_color": "sunken",
    "checkbox_background_color_selected": "accent",
    "checkbox_border_color": "line",
    "checkbox_border_color_focus": "accent",
    "checkbox_border_color_selected": "accent",
    "checkbox_label_background_fill": "panel",
    "checkbox_label_background_fill_selected": "soft",
    "checkbox_label_text_color": "ink",
    "checkbox_label_text_color_selected": "ink",
    "button_primary_background_fill": "accent",
    "button_primary_background_fill_hover": "accent",
    "button_primary_border_color": "accent",
    "button_primary_text_color": "on-accent",
    "button_secondary_background_fill": "sunken",
    "button_secondary_background_fill_hover": "line",
    "button_secondary_border_color": "line",
    "button_secondary_text_color": "ink",
    "link_text_color": "accent",
    "link_text_color_hover": "accent",
    "link_text_color_visited": "accent",
    "table_border_color": "line",
    "code_background_fill": "sunken",
}


def theme() -> gr.themes.Base:
    """A Gradio theme whose colours are the custom properties of theme.css, in both modes."""
    base = gr.themes.Base(
        primary_hue="orange",
        neutral_hue="stone",
        radius_size="md",
        font=list(FONT),
        font_mono=list(FONT_MONO),
    )
    colours = {name: f"var(--ddpm-{colour})" for name, colour in _COLOURS.items()}
    dark = {
        f"{name}_dark": value for name, value in colours.items() if hasattr(base, f"{name}_dark")
    }
    return base.set(
        **colours,
        **dark,
        block_shadow="none",
        block_title_text_weight="600",
        block_title_text_size="*text_sm",
        button_primary_shadow="none",
        button_large_text_weight="600",
        input_shadow="none",
        layout_gap="16px",
    )


def css() -> str:
    """The tabs' sheets and every widget's own, in one string for `launch(css=...)`."""
    own = [HERE / name for name in ("theme.css", "sample.css", "lab.css", "hub.css")]
    sheets = [*own, *sorted((HERE / "widgets").glob("*.css"))]
    return "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets)


def head() -> str:
    """What the page does beyond Gradio, for `launch(head=...)`: keys, focus, photos made small."""
    scripts = [(HERE / name).read_text(encoding="utf-8") for name in ("page.js", "photos.js")]
    return "\n".join(f"<script>\n{script}</script>" for script in scripts)
