"""Where orders go: what is committed before they are sent, what permits it, who sends them once, and what reconciles.

Never decides what to trade, and never knows a particular venue: that is a broker plugin's part.
"""
