"""
Answers as text or JSON: `screen` draws, `answer` is what all share, the rest one group each.

Pure: width, colour and the present moment come as arguments, and nothing is written.
"""
