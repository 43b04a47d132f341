"""SSD itself: default boxes, matching, loss, the networks and what they start from."""
