"""What the Lab computes: each experiment as a generator that puts pictures on a board.

In the room: requests checked (limits.py), boards and their messages (board.py), runs that can be
stopped (desk.py), and a file for each experiment. Not in the room: components (tabs/lab/), and
every equation, sampler and recipe: those are the library's, so that what a tool shows is what the
library computes for the same seed. No gradio here.
"""
