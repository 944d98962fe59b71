"""An engine of plain dictionaries under one lock: it shares nothing with the embedded one but the port.

A test double. Every port method is one commit: a copy of the state is changed and put in the place of the old one, or
thrown away. All that is kept is immutable, so what crosses the border is nobody's to change.
"""
