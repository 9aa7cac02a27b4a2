"""Services that answer: what they are asked, how they are called, what their failures mean.

Nothing else imports ``requests`` or ``urllib3``.
"""
