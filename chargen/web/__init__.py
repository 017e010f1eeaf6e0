"""The page of `chargen web`: Write, Sentiment and Train, for one machine and whoever sits at it.

`models` finds and keeps models, `jobs` trains in a process of its own, `views` turns results
into HTML; none of them knows Gradio. `page` lays them out, `server` serves them to this machine.
"""
