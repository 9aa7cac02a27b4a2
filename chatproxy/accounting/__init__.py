"""What an answer comes to: its tokens, counted or estimated if nobody tells, its cost, its budget.

It knows no upstream, no worker and no client. Nothing here holds up an event or a Stop.
"""
