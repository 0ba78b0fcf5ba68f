"""
What other programs' configurations come to in modeld's words.

    source      text -> values, each with its line; everything that stands twice
    values      what a value must be, and what is written of it
    gleaning    which keys are taken, which are left, and why: nothing passes in silence
    llama_pack  ollm  karen  rustyclaw  airganizer      one format each: gleaning -> what is taken
    toml        what is taken -> the text of a drop-in
    report      what became of a file
    place       files, read with care; all else here is pure

`modelctl.commands.importing` asks modeld and writes.
"""
