"""detection: an anchor-free object detector by hand, on scenes that it renders itself."""
