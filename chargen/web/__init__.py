"""The page of `chargen web`: Write, Sentiment and Train, for one machine and whoever sits at it.

`shelf` finds and keeps models, `workshop` trains in a process of its own, `views` turns results
into HTML; none of them knows Gradio. `page` lays them out, `server` serves them to this machine.
"""
