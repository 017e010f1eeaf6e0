"""The page of `chargen web` (Write, Sentiment and Train) for the users of one machine.

`models` finds and caches models, `jobs` trains in a separate process, and `views` renders results
as HTML, all without Gradio. `page` lays out the page, and `server` serves it to this machine.
"""
