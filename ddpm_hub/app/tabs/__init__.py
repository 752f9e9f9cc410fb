"""The tabs: components and wiring, one module each with a `build`. No torch in this folder."""
